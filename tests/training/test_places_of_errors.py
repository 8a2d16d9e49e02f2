"""What only shows when the host builds or runs a stage is told at the key that it comes from."""

import re
from pathlib import Path

import pytest

import failing
from mixacm_plugin import RecipeError
from mixacm_plugin.training.prepare import prepare
from recipes import CPU, mixacm, recipe, run, scratch, two_stages

LOADER = "train.train_data_loader"
RANDOM = "class_or_func: !import_get {key: torch.utils.data.RandomSampler}"
STUDENT = "forward_proc: forward_batch_only, forward_hook: {output: [layer.1.block.0.relu_0, relu]}"
KD = "train.criterion.kwargs.sub_terms.kd.criterion"
BATCHES = "batch_sampler: {key: BatchSampler, kwargs: {batch_size: 4, drop_last: 3}}"

PLACES = {
    "an argument that a sampler doesn't have": (
        [f"{LOADER}.sampler={{{RANDOM}, kwargs: {{replacment: True}}}}"],
        f"{LOADER}.sampler: .*replacment",
    ),
    "a class that is no sampler": (
        [f"{LOADER}.sampler.class_or_func=!import_get {{key: torch.utils.data.TensorDataset}}"],
        f"{LOADER}.sampler: ",
    ),
    "a batch sampler's argument": (
        [f"{LOADER}={{dataset_id: few/train, sampler: {{{RANDOM}}}, {BATCHES}, kwargs: {{}}}}"],
        f"{LOADER}.batch_sampler: .*drop_last",
    ),
    "a loader's argument": (
        [f"{LOADER}.kwargs={{batch_size: 16, shuffle: True}}"],
        f"{LOADER}.kwargs: .*shuffle",
    ),
    "the loader of validation images": (
        ["train.val_data_loader.kwargs={batch_size: 16, prefetch_factor: 2}"],
        "train.val_data_loader.kwargs: .*prefetch_factor",
    ),
    "a frozen student": (
        [f"train.student={{{STUDENT}, requires_grad: False}}"],
        "train.student.requires_grad: .*empty parameter list",
    ),
    "an optimiser that raises the loss": (
        ["train.optimizer.kwargs={lr: 0.1, maximize: True}"],
        "train.optimizer.kwargs.maximize: the loss would be raised",
    ),
    "a schedule of negative length": (
        ["train.scheduler.kwargs.T_max=-3"],
        "train.scheduler.kwargs.T_max: expected a number above 0; found -3",
    ),
    "neither input nor output": (
        [f"{KD}.kwargs.student_module_io=ouput"],
        f"{KD}.kwargs.student_module_io: expected input or output; found 'ouput'",
    ),
    "a module that isn't hooked": (
        [f"{KD}.kwargs.teacher_module_path=logits"],
        rf"{KD}.kwargs.teacher_module_path: 'logits' isn't hooked; .*teacher has '\.'",
    ),
    "a term without arguments": (
        [f"{KD}={{key: KDLoss}}"],
        f"{KD}.kwargs: missing from",
    ),
}


@pytest.mark.parametrize(("overrides", "told"), PLACES.values(), ids=PLACES)
def test_a_mistake_is_told_at_its_key(overrides, told):
    with pytest.raises(RecipeError, match=f"yaml: {told}"):
        prepare(recipe(None, *overrides), CPU)


def test_a_mistake_in_a_later_stage_is_told_at_its_key():
    loader = "{dataset_id: few/train, kwargs: {batch_size: 16, shuffle: True}"
    later = f"train.stage2.train_data_loader={loader}, sampler: {{{RANDOM}}}}}"
    with pytest.raises(
        RecipeError, match=r"yaml: train.stage2.train_data_loader.kwargs: .*shuffle"
    ):
        prepare(recipe(two_stages(mixacm()), later), CPU)


@pytest.mark.parametrize(("late", "said"), [(4, r", in epoch \d, step \d; "), (0, "$")])
def test_a_step_that_fails_in_a_loss_of_ones_own_is_told_with_its_line(
    late, said, capsys, monkeypatch
):
    monkeypatch.setattr(failing, "LATE", late)
    text = scratch().replace("- name: mixacm_plugin", "- name: mixacm_plugin\n  - name: failing")
    recipe(
        re.sub("    collate_fn: .*\n", "", text.replace("key: CrossEntropyLoss", "key: FailsLate"))
    )
    argv = ("--config", "recipe.yaml", "--device", "cpu", "--set", "train.num_epochs=5")
    assert run("torchdistill", *argv) == 2
    (line,) = [li for li in capsys.readouterr().err.splitlines() if ": error: " in li]
    lines = Path(failing.__file__).read_text().splitlines()
    (number,) = (n for n, li in enumerate(lines, 1) if li.endswith("# fails here"))
    assert re.search(rf"Expected input batch_size .* \(failing\.py:{number}\){said}", line)
