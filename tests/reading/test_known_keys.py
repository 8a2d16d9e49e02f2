"""Mistyped keys of a recipe: the host would ignore them, and train something else."""

import logging
from pathlib import Path

import pytest
from torchdistill.core.interfaces.registry import register_pre_forward_proc_func

from mixacm_plugin import RecipeError, Training, read_recipe
from mixacm_plugin.common.files import recipe_file
from mixacm_plugin.preflight.inspection import inspect_recipe
from mixacm_plugin.reading.checks import check_yaml
from mixacm_plugin.reading.library import override_names, recipe_names, study_names
from mixacm_plugin.studies.changes import sets
from mixacm_plugin.studies.study import read_study
from recipes import CPU, edit, mixacm, recipe, run, scratch, two_stages, write

LOADER, TERM = "train.train_data_loader", "train.criterion.kwargs.sub_terms.kd"
STAGES = two_stages(mixacm())
STAGE = STAGES.partition("  stage1: &stage\n")[2].partition("  stage2:")[0]
COPY, LOSS = STAGE.replace("&in_order ", ""), STAGE.partition("  criterion:\n")[2]
LINE, TRAIN = "  log_freq: 100\n", "train:\n"
FOREIGN = "train.experiment: unknown key"


def with_override_file(content):
    """The plain recipe with an override file, which may add keys."""
    Path("more.yaml").write_text(content)
    return recipe(None, "more.yaml")


def with_stages(stages):
    """The plain recipe with these stages, which have to define ``in_order``."""
    before, _, rest = mixacm().partition(TRAIN + "  num")
    return before + TRAIN + stages + "test:\n" + rest.split("\ntest:\n")[1]


@pytest.mark.parametrize(
    ("text", "where", "meant"),
    [
        (edit("models:", "model:"), "model", "models"),
        (edit("dependencies:", "dependency:"), "dependency", "dependencies"),
        (mixacm() + "EMA: {decay: 0.9}\n", "EMA", "ema"),
        (edit("src_ckpt:", "src_chkpt:"), "models.teacher_model.src_chkpt", "src_ckpt"),
        (edit("teacher_model:", "teacher:"), "models.teacher", "teacher_model"),
        (edit("log_freq", "log_frequency"), "train.log_frequency", "log_freq"),
        (edit("scheduler", "schedular"), "train.schedular", "scheduler"),
        (edit("pre_epoch_process", "pre_epoch_proc"), "train.pre_epoch_proc", "pre_epoch_process"),
        (edit("collate_fn", "colate_fn"), f"{LOADER}.colate_fn", "collate_fn"),
        (
            edit("RandomSampler}", "RandomSampler}, kwarg: {}"),
            f"{LOADER}.sampler.kwarg",
            "kwargs",
        ),
        (edit("key: SGD", "key: SGD\n    grad_acum_step: 2"), None, "grad_accum_step"),
        (edit("key: SGD", "key: SGD\n    max_gradnorm: 2"), None, "max_grad_norm"),
        (edit("T_max: 2}", "T_max: 2}\n    schedule_step: 2"), None, "scheduling_step"),
        (
            edit("auxiliary_model_wrapper", "auxiliary_model_wraper", mixacm(frozen_teacher=True)),
            "train.teacher.auxiliary_model_wraper",
            "auxiliary_model_wrapper",
        ),
        (edit("requires_grad", "require_grad"), "train.teacher.require_grad", "requires_grad"),
        (edit("{output: [", "{outputs: ["), "train.teacher.forward_hook.outputs", "output"),
        (edit("weight: 1.0", "weight: 1.0\n          weights: 200"), f"{TERM}.weights", "weight"),
        (
            edit("criterion_wrapper", "criterion_wraper", scratch()),
            "train.criterion.kwargs.sub_terms.ce.criterion_wraper",
            "criterion_wrapper",
        ),
        (edit("scheduler", "schedular", STAGES), "train.stage1.schedular", "scheduler"),
        (edit("init: {kwargs: {alpha", "init: {kwarg: {alpha"), None, "kwargs"),
        (edit("init: {kwargs: {split", "int: {kwargs: {split"), None, "init"),
    ],
)
def test_a_mistyped_key_is_an_error_that_names_the_right_one(text, where, meant):
    with pytest.raises(RecipeError, match=rf"unknown key\. Did you mean '{meant}'\?$") as error:
        Training(recipe(text), CPU)
    assert where in (None, error.value.where)


@pytest.mark.parametrize(
    ("path", "value", "meant"),
    [
        ("trian", "{num_epochs: 3}", "train"),  # at the top level, which isn't the host's alone
        ("train.teacher.forward_hoko", "{output: &own [bn]}\n_own: *own", "forward_hook"),
        ("train.num_epoch", "3", "num_epochs"),
        ("train.optimizer.kwarg", "{lr: 1.0}", "kwargs"),
        (f"{LOADER}.colate_fn", "null", "collate_fn"),
    ],
)
def test_an_override_file_adds_no_mistyped_key_beside_the_right_one(path, value, meant):
    with pytest.raises(RecipeError, match=f"Did you mean '{meant}'") as error:
        Training(with_override_file(f"{path}: {value}"), CPU)
    assert error.value.where == path


def test_a_mistyped_key_ends_the_command_with_one_line_before_any_dataset_is_built(capsys):
    text = edit("collate_fn", "colate_fn").replace("recipes.Few", "recipes.OutOfReach")
    write(text)
    assert run("torchdistill", "--config", "recipe.yaml") == 2
    assert capsys.readouterr().err == (
        f"torchdistill: error: recipe.yaml: {LOADER}.colate_fn: unknown key. "
        "Did you mean 'collate_fn'?\n"
    )


def test_a_key_unlike_any_other_is_a_warning(caplog):
    text = edit(LINE, LINE + "  experiment: 7\n")
    with caplog.at_level(logging.WARNING, "mixacm"):
        Training(recipe(text), CPU)
    assert [FOREIGN in record.getMessage() for record in caplog.records] == [True]
    (warning,) = inspect_recipe(recipe(text), CPU, seconds=0).warnings
    assert warning.startswith(FOREIGN)


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("num_epochs: 3", ". Did you mean 'train.num_epochs'?"),
        ("optimizer: {key: SGD}", ". Did you mean 'train.optimizer'?"),
        ("precision: bf16", ". Did you mean 'compute.precision'?"),
        ("evaluation: {attack: PGD}", ""),
        ("seed: 5", ""),
        ("settings: {a: &a 1, b: *a}", ""),
    ],
)
def test_a_key_at_the_top_level_that_nothing_reads_is_a_warning(line, hint):
    (warning,) = check_yaml(with_override_file(line))
    end = "unknown key, which neither torchdistill 1.1 nor this package reads"
    assert warning == f"{line.partition(':')[0]}: {end}{hint}"


@pytest.mark.parametrize(
    "text",
    [
        edit("models:", "_model: mine\nown: {n: &n 2}\nmodels:").replace("ochs: 2", "ochs: *n"),
        edit(f"{TRAIN}  num_epochs: 2", f"{TRAIN}  epochs: &epochs 2\n  num_epochs: *epochs"),
        edit(f"{TRAIN}  num_epochs: 2", f"{TRAIN}  own: {{n: &n 2}}\n  num_epochs: *n"),
        edit(TRAIN, f"{TRAIN}  more: &more {{requires_supp: False}}\n").replace(
            "  val_data_loader:\n", "  val_data_loader:\n    <<: *more\n"
        ),
        edit("  stage1: &stage\n", "  stage1: &stage\n    e: &e 2\n", STAGES)
        .replace("num_epochs: 2", "num_epochs: *e")
        .replace("stage2: *stage", "stage2: {<<: *stage}"),
    ],
    ids=["top level", "train", "inside", "merged", "stages"],
)
def test_anchors_may_be_defined_under_a_name_of_ones_own(text):
    assert check_yaml(recipe(text)) == []


def test_what_an_alias_brings_is_no_definition_of_ones_own():
    text = edit("key: SGD", "key: SGD\n    grad_clip: *in_order")
    (warning,) = check_yaml(recipe(text))
    assert warning.startswith("train.optimizer.grad_clip: unknown key")


def test_shared_stages_dont_make_a_mistyped_key_a_definition():
    text = edit("    num_epochs: 2", "    num_epochs: 2\n    num_epoch: 3", STAGES)
    with pytest.raises(RecipeError, match=r"train\.stage1\.num_epoch: unknown key"):
        check_yaml(recipe(text))


@pytest.mark.parametrize(
    "stages",
    [
        f"  warmup:\n{STAGE}  stage1:\n{COPY}",
        f"  stage1:\n{STAGE}  finetune:\n"
        + COPY.replace("num_epochs: 2", "num_epochs: &n 2").replace("T_max: 2", "T_max: *n"),
        f"  stage1: &stage\n{STAGE}  finetune: *stage\n",
        f"  stage1: &stage\n{STAGE}  finetune: {{<<: *stage, num_epochs: 1}}\n",
    ],
    ids=["first", "last", "alias", "merged"],
)
def test_a_stage_under_another_name_is_told_since_it_would_not_be_trained(stages):
    with pytest.raises(RecipeError, match=r"not a stage.* named stage1, stage2, ") as error:
        check_yaml(recipe(with_stages(stages)))
    assert error.value.where in ("train.warmup", "train.finetune")


@pytest.mark.parametrize(
    "stages",
    [
        f"  base: &base\n{STAGE}  stage1: *base\n",
        f"  own:\n    num_epochs: &n 2\n    criterion: &loss\n{LOSS}  stage1:\n"
        + STAGE.replace(f":\n{LOSS}", ": *loss\n").replace("num_epochs: 2", "num_epochs: *n"),
    ],
    ids=["as a whole", "piece by piece"],
)
def test_a_block_of_which_all_is_used_elsewhere_is_no_stage(stages):
    assert check_yaml(recipe(with_stages(stages))) == []


def test_anchors_that_only_their_own_block_uses_are_of_no_use():
    text = edit(TRAIN, f"{TRAIN}  extra: {{a: &a 1, b: *a}}\n")
    (warning,) = check_yaml(recipe(text))
    assert warning.startswith("train.extra: unknown key")


FORWARD = "    forward_proc: forward_batch_only\n"
STAGE_1 = "  stage1: &stage\n"
IGNORED = {  # a recipe, and the beginning of each warning
    "a stage's checkpoint": (
        two_stages(edit(FORWARD, f"{FORWARD}    dst_ckpt: a.pt\n", scratch())),
        [f"train.stage{number}.model.dst_ckpt: the host ignores it here" for number in (1, 2)],
    ),
    "the only stage's": (
        edit(FORWARD, f"{FORWARD}    dst_ckpt: a.pt\n", scratch()),
        ["train.model.dst_ckpt: the host ignores it here"],
    ),
    "that of all stages": (
        edit(STAGE_1, f"  model: {{dst_ckpt: a.pt}}\n{STAGE_1}", two_stages(scratch())),
        [],
    ),
    "above the stages": (
        edit(STAGE_1, f"  model: {{frozen_modules: [layer]}}\n{STAGE_1}", two_stages(scratch())),
        ["train.model.frozen_modules: the host ignores it here; write it into each stage"],
    ),
    "an anchor's place": (
        edit(
            STAGE_1,
            f"  model: {{forward_proc: forward_batch_only}}\n{STAGE_1}",
            two_stages(scratch()),
        ),
        [],
    ),
    "a process that nobody calls": (
        edit(TRAIN, f"{TRAIN}  pre_forward_process: never_called\n"),
        ["train.pre_forward_process: nobody calls it"],
    ),
}


@register_pre_forward_proc_func
def never_called(box, **kwargs):
    """What the host has a place for and doesn't use."""


@pytest.mark.parametrize("text, beginnings", IGNORED.values(), ids=IGNORED)
def test_what_the_host_reads_elsewhere_or_not_at_all_is_a_warning(text, beginnings):
    warnings = check_yaml(recipe(text))
    assert len(warnings) == len(beginnings)
    assert all(map(str.startswith, warnings, beginnings))


@pytest.mark.parametrize("name", recipe_names())
def test_every_key_of_a_shipped_recipe_is_known(name):
    assert check_yaml(read_recipe(name)) == []


@pytest.mark.parametrize("name", override_names())
def test_every_key_of_a_shipped_override_file_is_known(name):
    alone = "train.model." in Path(recipe_file(name)).read_text()
    base = "quickstart/scratch" if alone else "quickstart/mixacm"
    assert check_yaml(read_recipe(base, [name])) == []


@pytest.mark.exhaustive(each=("study",))
@pytest.mark.parametrize(
    ("study", "name"), [(s, r.name) for s in study_names() for r in read_study(s).rows]
)
def test_every_key_of_a_shipped_studys_rows_is_known(study, name):
    (row,) = (row for row in read_study(study).rows if row.name == name)
    assert check_yaml(read_recipe(row.base, sets(row.changes))) == []
