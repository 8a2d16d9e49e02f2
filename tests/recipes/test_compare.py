"""Every method in recipes/compare trains in every stage and leaves a plain student behind."""

import os
import re
from itertools import count
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torchvision.transforms.functional import to_pil_image, to_tensor

from boxes import host_box, train_epoch
from mixacm_plugin import RandomImages, RecipeError, Training, dm_wide_resnet, read_recipe
from mixacm_plugin.common.distributed import init_process_group
from mixacm_plugin.common.files import read_json_lines, recipe_file
from mixacm_plugin.loading.models import load_model
from mixacm_plugin.parts.data import FourRotations
from mixacm_plugin.preflight.inspection import inspect_recipe
from mixacm_plugin.reading import sections
from mixacm_plugin.reading.library import override_names
from mixacm_plugin.training import loop
from mixacm_plugin.training.boxes import models_of
from processes import PROCESSES, run_processes
from recipes import CPU
from weights import differing, state

BATCH, EPOCHS = 64, 4


def few_digits(name, *more, mixed=False, images=BATCH):
    """A method on its base, with few images, mixed if it is so shipped, at a low rate."""
    text = Path(recipe_file(name)).read_text()
    base, student = "quickstart/mixacm", "models.student_model"
    if re.search(r"^train\.model\b", text, re.MULTILINE):  # without a teacher
        base, student = "quickstart/scratch", "models.model"
    sets = [name, f"{student}.dst_ckpt=out/student.pt"]
    for split in ("train", "val"):
        call = f"!import_call {{key: recipes.FirstDigits, init: {{args: [{split}, {images}]}}}}"
        sets.append(f"datasets.digits/{split}={call}")
    for path, stage in sections.stages({"train": read_recipe(base, sets).build("train")}):
        sets.append(f"{path}.num_epochs={EPOCHS}")
        if stage["optimizer"]["key"] == "SGD":
            sets.append(f"{path}.optimizer.kwargs.lr=0.01")
        if not mixed and "collate_fn" in stage.get("train_data_loader", {}):
            sets.append(f"{path}.train_data_loader.collate_fn.init.kwargs.alpha=0.0")
    return read_recipe(base, [*sets, *more])


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", override_names())
def test_a_method_learns_leaves_the_teacher_alone_and_saves_the_plain_student(name):
    recipe = few_digits(name)
    training = Training(recipe, CPU, seed=0)
    before = {role: state(model) for role, model in training.models.items()}
    training.run()
    losses = [line["loss"] for line in read_json_lines(training.metrics_file)]
    stages = len(list(sections.stages(training.config)))
    assert len(losses) == stages * EPOCHS
    for stage in range(stages):
        first, *_, last = losses[stage * EPOCHS :][:EPOCHS]
        assert last < first
    if "teacher" in before:
        assert not differing(before["teacher"], state(training.models["teacher"]))
    trained = state(training.models["student"])
    assert differing(before["student"], trained) == list(trained)
    plain = dm_wide_resnet(10, 1, 10)
    checkpoint = torch.load("out/student.pt", weights_only=False)
    plain.load_state_dict(checkpoint["model"], strict=True)
    assert not differing(trained, state(plain))
    assert not differing(trained, state(load_model(recipe)))


@pytest.mark.exhaustive
@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("name", override_names())
def test_a_method_trains_in_every_stage_under_the_host(name, mixed):
    models, box = host_box(few_digits(name, mixed=mixed))
    before = {role: state(model) for role, model in models.items()}
    losses = [loss for _ in range(box.num_epochs) for loss in train_epoch(box)]
    for stage in range(0, len(losses), EPOCHS):
        first, *_, last = losses[stage:][:EPOCHS]
        assert mixed or last < first  # mixup has other images in every step
    after = {role: state(model) for role, model in models.items()}
    assert differing(before["student"], after["student"]) == list(after["student"])
    if "teacher" in models:
        assert not differing(before["teacher"], after["teacher"])


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", override_names())
def test_a_method_trains_in_bfloat16_as_in_float32(name):
    """What a wrapper trains beside the student, such as FT's translator, too."""
    losses = {}
    for precision in ("fp32", "bf16"):
        training = Training(few_digits(name, f"compute.precision={precision}"), CPU, seed=0)
        training.run()
        losses[precision] = [line["loss"] for line in read_json_lines(training.metrics_file)]
    for stage in range(0, len(losses["fp32"]), EPOCHS):
        assert losses["bf16"][stage] == pytest.approx(losses["fp32"][stage], rel=0.1)


# What several processes ask for, since the first stage of these trains a part of the student.
FROZEN = {
    "fsp": "train.stage1.student.frozen_modules: [logits]",
    "dab": "train.stage1.student.frozen_modules: [student_model.logits]",
    "fitnet": "train.stage1.student.frozen_modules: [student_model.layer.1.block.0.conv_0, "
    "student_model.layer.1.block.0.batchnorm_1, student_model.layer.1.block.0.conv_1, "
    "student_model.layer.1.block.0.shortcut, student_model.layer.2, student_model.batchnorm, "
    "student_model.logits]",
}
UNUSED = "train.stage1.student.auxiliary_model_wrapper.kwargs.find_unused_parameters: True"


def train_in_a_process(rank, folder):
    mine = Path(folder, str(rank))
    mine.mkdir()
    os.chdir(mine)
    init_process_group(CPU, f"file://{folder}/group")
    name = Path(folder, "name").read_text()
    short = name.removeprefix("compare/")
    if short in FROZEN:
        with pytest.raises(RecipeError, match="get no gradient") as error:
            Training(few_digits(name, images=PROCESSES * BATCH), CPU, seed=0)
        assert FROZEN[short].split(": ")[1] in str(error.value)
        Path("more.yaml").write_text(f"{FROZEN[short]}\n{UNUSED if short != 'fsp' else ''}\n")
    more = map(str, Path().glob("more.yaml"))
    training = Training(few_digits(name, *more, images=PROCESSES * BATCH), CPU, seed=0)
    training.run()
    torch.save({role: state(model) for role, model in models_of(training.box).items()}, "end.pt")
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize("name", override_names())
def test_a_method_trains_in_two_processes_that_stay_alike(name, tmp_path):
    """What a wrapper reads from a file between stages, such as FT's paraphraser, is alike too."""
    Path(tmp_path, "name").write_text(name)
    run_processes(train_in_a_process, tmp_path)
    first, second = (torch.load(tmp_path / str(rank) / "end.pt") for rank in range(PROCESSES))
    for role, weights in first.items():
        trained = [n for n in weights if "running_" not in n and "num_batches" not in n]
        assert not {*differing(weights, second[role])} & {*trained}


def test_tensors_are_rotated_as_the_host_rotates_pictures():
    images, label, extra = FourRotations(RandomImages(1, (3, 8, 8), 10))[0]
    picture = to_pil_image(images[0])
    turned = [to_tensor(picture.rotate(degrees, expand=True)) for degrees in (0, 90, 180, 270)]
    torch.testing.assert_close(images, torch.stack(turned), rtol=0, atol=1 / 255)
    assert (label, extra) == (RandomImages(1, (3, 8, 8), 10)[0][1], {})


@pytest.mark.parametrize("name", override_names())
def test_a_method_says_in_its_first_line_what_it_is_and_where_it_is_from(name):
    first = Path(recipe_file(name)).read_text().splitlines()[0]
    assert re.fullmatch(r"# \S.* \(.+ \d{4}(, .+)?\)", first)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", override_names())
def test_a_method_passes_the_check_without_a_warning(name):
    found = inspect_recipe(few_digits(name), CPU, seconds=0)
    assert found.warnings == []
    assert all(stage.terms for stage in found.stages)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, killed_in", [("vid", 1), ("crd", 2), ("ft", 1), ("ft", 4), ("ft", 6), ("sskd", 5)]
)
def test_a_resumed_method_ends_as_one_that_never_stopped(name, killed_in, monkeypatch):
    recipe = few_digits(f"compare/{name}")
    Training(recipe, CPU, seed=0).run()
    whole = torch.load("out/student.pt", weights_only=False)
    train_steps, epochs = loop.train_steps, count()

    def dies(*args, **kwargs):
        if next(epochs) == killed_in:
            raise KeyboardInterrupt
        return train_steps(*args, **kwargs)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "train_steps", dies)
        Training(recipe, CPU, seed=0).run()
    resumed = Training(recipe, CPU)
    resumed.resume("out/student.pt")
    resumed.run()
    assert not differing(whole["model"], torch.load("out/student.pt", weights_only=False)["model"])
