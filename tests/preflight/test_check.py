"""``mixacm check``: what it says of a recipe, what it warns of, what it leaves behind."""

import math
import re
from pathlib import Path

import pytest
import torch

from mixacm_plugin import RecipeError, dm_wide_resnet
from mixacm_plugin.preflight.inspection import inspect_recipe
from recipes import CPU, edit, mixacm, recipe, run, scratch, two_stages, write

SHAPE = (3, 8, 8)
TERMS = "train.criterion.kwargs.sub_terms"
DIGITS = "!import_call {key: mixacm_plugin.Digits, init: {kwargs: {split: train"
KD_ONLY = re.sub(r"        acm:.*?weight: 20\.0\n", "", mixacm(), flags=re.DOTALL)
EVAL_LINE = "  pre_epoch_process: keep_teacher_in_eval\n"


def inspect(text=None, *overrides, **settings):
    return inspect_recipe(recipe(text, *overrides), CPU, seconds=0, **settings)


def files():
    return sorted(str(path) for path in Path().rglob("*"))


def test_check_prints_pairs_terms_sizes_and_speed_and_writes_nothing(capsys):
    write(mixacm(2, 1, "adaptive_max_pool"))
    before = files()
    teacher, student = (
        sum(p.numel() for p in dm_wide_resnet(10, width).parameters()) for width in (2, 1)
    )
    assert run("main", "check", "recipe.yaml", "--device", "cpu") == 0
    out = capsys.readouterr().out
    assert files() == before
    for line in (
        f"teacher: WideResNet, {teacher:,} parameters",
        f"student: WideResNet, {student:,} parameters trained ({100 * student / teacher:.4g} %)",
        "acm.middle  teacher  layer.1.block.0.relu_0 (output)  32×8×8      32   adaptive_max_pool",
        "acm.middle  student  layer.1.block.0.relu_0 (output)  16×8×8      16   –",
        "per epoch of 32 images",
        "images/s at batch size 16",
        "no warnings",
    ):
        assert line in out
    assert re.search(r"^kd +[\d.e-]+ +[\d.e-]+$", out, re.MULTILINE)
    assert re.search(r"^peak memory: [\d,]+ MiB$", out, re.MULTILINE)


@pytest.mark.parametrize(
    "argv",
    [["recipe.yaml"], ["--config", "recipe.yaml"], ["--set", "train.num_epochs=2", "recipe.yaml"]],
)
def test_the_recipe_can_be_given_in_either_way(argv, capsys):
    write(scratch())
    assert run("main", "check", *argv, "--device", "cpu") == 0
    assert "student: WideResNet, 77,850 parameters trained\n" in capsys.readouterr().out


@pytest.mark.parametrize("argv", [[], ["recipe.yaml", "--config", "recipe.yaml"]])
def test_check_takes_one_recipe(argv, capsys):
    assert run("main", "check", *argv) == 2
    assert "expected one recipe" in capsys.readouterr().err


def test_a_broken_recipe_is_told_in_a_line_with_exit_code_2(capsys):
    write()
    argv = ["recipe.yaml", "--device", "cpu", "--set", "train.optimizer.key=SDG"]
    assert run("main", "check", *argv) == 2
    error = capsys.readouterr().err
    assert "recipe.yaml: train.optimizer.key: no optimizer 'SDG'" in error
    assert error.count("\n") == 1


def test_terms_and_gradients_are_those_of_the_loss():
    found = inspect()
    terms = {term.name: term for term in found.stages[0].terms}
    assert list(terms) == ["kd", "acm", "total"]
    assert terms["total"].value == pytest.approx(terms["kd"].value + terms["acm"].value, rel=1e-5)
    norms = [terms[name].gradient_norm for name in ("kd", "acm")]
    assert abs(norms[0] - norms[1]) <= terms["total"].gradient_norm <= sum(norms) * 1.00001
    assert all(norm > 0 for norm in norms)
    doubled = inspect(None, f"{TERMS}.acm.weight=40.0").stages[0].terms[1]
    assert doubled.value == pytest.approx(2 * terms["acm"].value, rel=1e-4)
    assert doubled.gradient_norm == pytest.approx(2 * terms["acm"].gradient_norm, rel=1e-4)


def test_time_is_told_for_an_epoch_and_for_all():
    stage = inspect(None).stages[0]
    assert (stage.epochs, stage.images_per_epoch, stage.batch_size) == (2, 32, 16)
    assert stage.seconds_per_epoch == pytest.approx(32 / stage.times.images_per_second)


def test_a_learnable_transform_is_named():
    ends = inspect(mixacm(2, 1, "affine")).stages[0].pairs
    assert [end.transform for end in ends if end.side == "teacher"] == ["learnable Linear"] * 2


def test_every_stage_is_tried_and_no_checkpoint_written_between_them():
    text = two_stages(mixacm())
    student = "{forward_proc: forward_batch_only, dst_ckpt: stage.pt, "
    hooks = "forward_hook: {output: [layer.1.block.0.relu_0, relu]}}"
    found = inspect(text, f"train.stage1.student={student}{hooks}")
    assert [stage.path for stage in found.stages] == ["train.stage1", "train.stage2"]
    assert all(len(stage.pairs) == 4 for stage in found.stages)
    assert not Path("stage.pt").exists()


def test_the_generators_are_left_as_they_were():
    checked = recipe()
    state = torch.get_rng_state()
    inspect_recipe(checked, CPU, seconds=0)
    assert torch.equal(torch.get_rng_state(), state)


IN_ORDER = (
    "train.train_data_loader.sampler.class_or_func="
    "!import_get {key: torch.utils.data.SequentialSampler}"
)
# What is changed in a good recipe, and words of the warning that it gets.
WARNINGS = [
    (edit(EVAL_LINE, ""), "leaves the teacher in train mode"),
    (f"{TERMS}.kd.criterion.kwargs.alpha=0", "without beta (0.95) and temperature² (10²)"),
    (f"{TERMS}.kd.criterion.kwargs.alpha=null", "bare KL divergence"),
    (f"{TERMS}.kd.criterion.kwargs.alpha=0.99", "labels weigh more than the teacher"),
    (
        "validate={attack: pgd, eps: 8/255, step_size: 0.0001}",
        "validate: PGD-20 (step 0.0001) can't reach the edge of its ball",
    ),
    ("train.scheduler.kwargs.T_max=200", "T_max: the schedule is 200 long, the stage 2 epochs"),
    ("train.num_epochs=3", "T_max: the schedule is 2 long, the stage 3 epochs"),
    (
        "train.scheduler={key: MultiStepLR, kwargs: {milestones: [1, 60]}}",
        "[60] are never reached in 2 epochs",
    ),
    (
        "train.scheduler={key: MultiStepLR, kwargs: {milestones: [1, 2]}}",
        "[2] are never reached in 2 epochs",
    ),
    (
        "train.scheduler={key: warmup_cosine, kwargs: {epochs: 5, warmup_epochs: 1}}",
        "epochs: the schedule is 5 long",
    ),
    (
        "train.scheduler={key: CosineAnnealingLR, kwargs: {T_max: 5}, scheduling_step: 1}",
        "the schedule is 5 long, the stage 4 steps (2 epochs)",
    ),
    (edit("    src_ckpt: teacher.pt\n", ""), "the teacher's weights are random"),
    (IN_ORDER, "mixup mixes neighbours"),
    (f"{TERMS}.kd.criterion.kwargs.beta=95", "beta: 95; it weights a part, of 0 to 1"),
    (f"{TERMS}.kd.weight=-1", "kd.weight: -1, so KDLoss is made as large as it can be"),
    ("train.optimizer.kwargs={momentum: 0.9}", "no lr, so it is the default of SGD"),
    ("train.train_data_loader.dataset_id=few/test", "few/test are the test images, too: trained"),
    ("train.val_data_loader.dataset_id=few/test", "the best checkpoint is chosen by them"),
    ("train.val_data_loader.kwargs={num_workers: 0}", "no batch_size, so a batch is one image"),
]
GOOD = [
    mixacm(),
    scratch(),
    mixacm(2, 1, "affine"),
    edit(
        "key: CosineAnnealingLR\n    kwargs: {T_max: 2}",
        "key: CosineAnnealingLR\n    kwargs: {T_max: 4}\n    scheduling_step: 1",
    ),
    edit(
        "  scheduler:\n    key: CosineAnnealingLR\n    kwargs: {T_max: 2}",
        "    grad_accum_step: 2\n  scheduler:\n    key: CosineAnnealingLR\n    kwargs: {T_max: 2}\n"
        "    scheduling_step: 1",
    ),
    edit("alpha: 0.05", "alpha: 0.5"),
]


def test_each_stages_schedule_is_measured_by_its_own_batches():
    by_step = "{{key: CosineAnnealingLR, kwargs: {{T_max: {}}}, scheduling_step: 1}}".format
    overrides = [f"train.stage{n}.scheduler={by_step(4 * n)}" for n in (1, 2)]
    overrides.append("train.stage2.train_data_loader.kwargs={batch_size: 8}")
    assert inspect(two_stages(mixacm()), *overrides).warnings == []


@pytest.mark.parametrize(("change", "words"), WARNINGS, ids=[words for _, words in WARNINGS])
def test_a_trap_is_warned_of(change, words):
    found = inspect(change) if "\n" in change else inspect(None, change)
    assert len(found.warnings) == 1
    assert words in found.warnings[0]


@pytest.mark.parametrize("text", GOOD, ids=range(len(GOOD)))
def test_a_good_recipe_gets_no_warning(text):
    assert inspect(text).warnings == []


def test_images_in_order_that_are_not_mixed_are_not_warned_of():
    unmixed = "train.train_data_loader.collate_fn.init.kwargs.alpha=0"
    assert inspect(None, IN_ORDER, unmixed).warnings == []


def test_an_activation_that_is_changed_in_place_is_warned_of():
    kwargs = (
        "{depth: 10, k: 1, dropout_p: 0.0, num_classes: 10, pretrained: False, progress: False}"
    )
    model = f"key: normalized\n    kwargs: {{model: wide_resnet, model_kwargs: {kwargs}}}"
    text = re.sub(r"key: dm_wide_resnet\n    kwargs: .*", model, mixacm())
    text = text.replace("src_ckpt: teacher.pt", "").replace("layer.1.block.0.relu_0", "bn1")
    warnings = inspect(text).warnings
    for side in ("teacher", "student"):
        where = f"train.{side}.forward_hook.output: bn1 is changed in place after it is hooked"
        assert [where in line for line in warnings].count(True) == 1
    assert not any("forward_hook.output: relu" in line for line in warnings)


NORMALIZE = "!import_call {key: torchvision.transforms.v2.Normalize, init: {args: [[0.5], [0.5]]}}"
NORMALISING = f"datasets.few/train={DIGITS}, transform: {NORMALIZE}}}}}}}"


@pytest.mark.parametrize("shape", [None, SHAPE])
def test_a_dataset_that_normalises_is_refused_where_the_model_normalises(shape):
    with pytest.raises(RecipeError, match="train_data_loader: ValueError: images range from -"):
        inspect(None, NORMALISING, input_shape=shape)


@pytest.mark.parametrize("shape", [None, SHAPE])
def test_a_dataset_that_normalises_is_warned_of_where_no_pixels_are_meant(shape):
    student = "{key: resnet18, kwargs: {num_classes: 10}, dst_ckpt: ckpt_normalized/s.pt}"
    changes = (NORMALISING, f"models.model={student}")
    (warning,) = inspect(scratch(), *changes, input_shape=shape).warnings
    assert re.match(r"train.train_data_loader: images range from -", warning)


class OutOfReach(torch.utils.data.Dataset):
    """A dataset that must not be constructed."""

    def __init__(self, *args, **kwargs):
        raise AssertionError("constructed")


def out_of_reach(text):
    """A recipe whose datasets can't be constructed: by name, by alias, from another section."""
    call = "!import_call {key: recipes.OutOfReach, init: {kwargs: {root: /no/such}}}"
    head, datasets, rest = re.split(r"(?m)^(?=datasets:|models:)", text)
    datasets = (
        f"splits: &splits [{call}, {call}]\n"
        f"datasets:\n  few/train: &train {call}\n"
        "  few/val: !access_by_index_or_key {data: *splits, index_or_key: 1}\n"
        "  few/test: !import_call {key: torch.utils.data.Subset, init: {args: [*train, [0, 1]]}}\n"
    )
    return head + datasets + rest


@pytest.mark.parametrize(
    "text", [mixacm(), scratch(), mixacm(2, 1, "affine"), two_stages(mixacm())]
)
def test_with_an_input_shape_no_dataset_is_constructed(text):
    found = inspect(out_of_reach(text), input_shape=SHAPE, batch_size=2)
    for stage in found.stages:
        assert stage.batch_size == 2
        assert stage.images_per_epoch is None
        assert stage.seconds_per_epoch is None
        assert all(math.isfinite(term.value) for term in stage.terms)


@pytest.mark.parametrize(
    "teacher",
    [
        "key: dm_wide_resnet\n    kwargs: {depth: 16, width: 1, num_classes: 10}\n    src_ckpt: x",
        "key: robust_teacher\n    kwargs: {name: salman2020_resnet50}",
    ],
)
def test_checkpoints_can_be_left_out(teacher):
    text = re.sub(r"(?<=teacher_model:\n    )key: .*\n.*\n.*", teacher, KD_ONLY)
    classes = ["10", "1000"]["salman" in teacher]
    text = text.replace("num_classes: 10}", f"num_classes: {classes}}}")
    hooks = "train.teacher.forward_hook={output: [relu]}"
    found = inspect(text, hooks, input_shape=(3, 32, 32), batch_size=2, random_weights=True)
    assert found.warnings == ["models: weights are random, since no checkpoint was read"]
