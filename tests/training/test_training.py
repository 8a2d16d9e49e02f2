"""The training command: what it keeps, resumes, refuses and leaves alone."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchdistill.common.main_util import load_ckpt
from torchdistill.core.interfaces.registry import register_post_forward_proc_func
from torchdistill.datasets.registry import register_dataset_wrapper
from torchdistill.losses.registry import register_mid_level_loss

from mixacm_plugin import RecipeError, Training, UserError, dm_wide_resnet
from mixacm_plugin.common.checkpoints import load_checkpoint
from mixacm_plugin.common.state import rng_state
from mixacm_plugin.loading.models import build_models
from mixacm_plugin.training import epoch
from mixacm_plugin.training.building import build_box, check_stage
from mixacm_plugin.training.epoch import EpochSums, train_steps
from recipes import CPU, Few, loader_accuracy, mixacm, recipe, scratch, two_stages, write
from runs import metrics, saved, trained
from weights import differing, state

HOSTS_PROCESS = ("  pre_epoch_process: keep_teacher_in_eval\n", "")


@register_mid_level_loss
class NaNAfter(nn.Module):
    """Zero, with a gradient, for some calls; then NaN."""

    def __init__(self, calls):
        super().__init__()
        self.calls = calls

    def forward(self, student_io_dict, teacher_io_dict, targets):
        self.calls -= 1
        return (0.0 if self.calls >= 0 else math.nan) * student_io_dict["."]["output"].sum()


def test_every_epoch_is_one_line_of_metrics_with_every_term_by_name():
    trained()
    lines = metrics()
    assert [line["epoch"] for line in lines] == [0, 1]
    for line in lines:
        assert set(line["terms"]) == {"kd", "acm"}
        assert all(value > 0 for value in line["terms"].values())
        assert sum(line["terms"].values()) == pytest.approx(line["loss"], rel=1e-5)
    assert [line["lr"] for line in lines] == pytest.approx([0.05, 0.025])


def test_last_and_best_checkpoint_are_kept():
    trained(None, "train.num_epochs=4", "train.optimizer.kwargs.lr=0.2")
    accuracies = [line["val_accuracy"] for line in metrics()]
    assert saved()["epoch"] == 3
    assert saved("out/best_student.pt")["epoch"] == accuracies.index(max(accuracies))
    assert (
        saved()["best_value"] == saved("out/best_student.pt")["best_value"] == 100 * max(accuracies)
    )


def test_the_last_checkpoint_loads_with_the_hosts_loader():
    training = trained()
    fresh = dm_wide_resnet(10, 1, 10)
    best_value, args = load_ckpt("out/student.pt", model=fresh, strict=True)
    assert not differing(state(fresh), state(training.models["student"]))
    assert best_value == 100 * training.best_val_accuracy  # the host's are in per cent
    assert args["seed"] == 0


def test_validation_is_on_the_validation_data():
    training = trained()
    accuracy = loader_accuracy(training.models["student"], DataLoader(Few("val", 40), 25))
    assert metrics()[-1]["val_accuracy"] == pytest.approx(accuracy)


def test_a_recipe_may_be_given_as_its_file():
    by_file = Training(Path(write(scratch())), CPU, seed=3)
    by_file.run()
    read = trained(scratch(), seed=3)
    assert not differing(*(state(training.models["student"]) for training in (by_file, read)))


def test_a_seed_repeats_a_run_bit_for_bit():
    students = [state(trained(seed=seed).models["student"]) for seed in (3, 3, 4)]
    assert not differing(students[0], students[1])
    assert differing(students[1], students[2])


def test_a_seed_of_numpys_is_one_of_pythons():
    trained(scratch(), seed=3)
    one = saved()["model"]
    trained(scratch(), seed=np.arange(4)[3])
    assert not differing(one, load_checkpoint("out/student.pt")["model"])


@pytest.mark.parametrize("seed", [True, "3", 1.0, -1, 2**32])
def test_what_is_no_seed_is_refused(seed):
    with pytest.raises(ValueError, match="seed must be a whole number from 0 to 4294967295"):
        Training(recipe(), CPU, seed)


def elsewhere(folder, text):
    return recipe(text.replace("dst_ckpt: out/", f"dst_ckpt: {folder}/"))


def test_a_seed_repeats_a_run_beside_others_in_the_process():
    trained(scratch())
    alone = saved()["model"]
    pair = [Training(elsewhere(folder, scratch()), CPU, 0) for folder in "ab"]
    for training in pair:
        training.run()
    assert not differing(alone, saved("a/student.pt")["model"])
    assert not differing(alone, saved("b/student.pt")["model"])


@register_post_forward_proc_func
def never_a_step(box, loss):
    """Leave out what trains."""


@pytest.mark.parametrize("text", [scratch(), mixacm()], ids=["alone", "with a teacher"])
def test_a_training_has_processes_of_its_own(text):
    idle = text.replace("  log_freq", "  post_forward_process: never_a_step\n  log_freq")
    trained(text)
    alone = saved()["model"]
    training = Training(elsewhere("a", text), CPU, 0)
    Training(elsewhere("b", idle), CPU, 0)
    training.run()
    assert not differing(alone, saved("a/student.pt")["model"])
    training = Training(elsewhere("c", text), CPU)
    training.resume("out/best_student.pt")
    Training(elsewhere("b", idle), CPU, 0)
    training.run()
    assert not differing(alone, saved("c/student.pt")["model"])


def test_a_training_runs_once():
    training = trained(scratch())
    before = Path("out/student.pt").read_bytes(), metrics()
    with pytest.raises(UserError, match="this Training has run; make another one"):
        training.run()
    with pytest.raises(UserError, match="this Training has run"):
        training.resume("out/best_student.pt")
    assert before == (Path("out/student.pt").read_bytes(), metrics())


def test_src_ckpt_of_a_student_initialises_and_does_not_resume():
    trained()
    Path("out/student.pt").rename("earlier.pt")
    text = mixacm().replace("dst_ckpt", "src_ckpt: earlier.pt\n    dst_ckpt")
    training = Training(recipe(text), CPU)
    assert not differing(saved("earlier.pt")["model"], state(training.models["student"]))
    assert not training.box.optimizer.state
    assert training.box.optimizer.param_groups[0]["lr"] == 0.05
    training.run()
    assert [line["epoch"] for line in metrics()] == [0, 1]


def test_a_later_stage_with_a_trainable_teacher_is_refused_before_training():
    with pytest.raises(RecipeError, match=r"train\.stage2\.teacher.*requires_grad: False"):
        Training(recipe(two_stages(mixacm()), "train.stage2.teacher.requires_grad=True"), CPU)
    assert not Path("out").exists()


def test_a_part_of_the_teacher_that_no_optimiser_knows_is_not_trained_and_not_refused():
    # As with a host's wrapper that freezes only the modules it names.
    training = Training(recipe(), CPU)
    training.models["teacher"].logits.requires_grad_(True)
    check_stage(training.recipe, training.config, training.box, training.models)


@pytest.mark.parametrize("stages", [1, 2])
@pytest.mark.parametrize("keep_train_mode", [False, True])
def test_the_teacher_is_kept_in_eval_mode_unless_told_otherwise(keep_train_mode, stages):
    text = mixacm().replace(*HOSTS_PROCESS)
    if keep_train_mode:
        text = text.replace("    forward_hook", "    keep_train_mode: True\n    forward_hook", 1)
    training = Training(recipe(two_stages(text) if stages == 2 else text), CPU)
    before = state(training.models["teacher"])
    training.run()
    changed = differing(before, state(training.models["teacher"]))
    assert bool(changed) == keep_train_mode
    assert all("running" in name or "num_batches" in name for name in changed)


@register_dataset_wrapper
class TakesTransform(Dataset):
    """Takes the transform away from its dataset, as the host's SSKDDatasetWrapper does."""

    def __init__(self, dataset):
        self.dataset, self.transform = dataset, dataset.transform
        dataset.transform = None

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        image, label = self.dataset[index]
        return self.transform(image), label, {}


def test_stages_are_tried_on_datasets_that_stay_as_they_are():
    loader = "  train_data_loader:\n"
    wrapper = f"{loader}    dataset_wrapper: {{key: TakesTransform, kwargs: {{}}}}\n"
    text = two_stages(mixacm().replace(loader, wrapper, 1))
    few = "!import_call {key: recipes.Transformed, init: {kwargs: {split: train, n: 32}}}"
    second = "train.stage2.train_data_loader.dataset_wrapper=null"
    trained(text, f"datasets.few/train={few}", second)
    assert len(metrics()) == 4


@pytest.mark.parametrize("kind", [None, "affine"])
def test_the_trial_step_leaves_no_trace(kind):
    read = recipe(mixacm(kind=kind))
    config = read.build()
    models = build_models(read, config)
    models["student"].train()
    before = {role: state(model) for role, model in models.items()}
    torch_rng = rng_state()["torch"]
    box = build_box(read, config, models, CPU)
    check_stage(read, config, box, models)
    assert torch.equal(rng_state()["torch"], torch_rng)
    for role, model in models.items():
        assert not differing(before[role], state(model))
        assert all(p.grad is None for p in model.parameters())
    assert not box.optimizer.state
    assert models["student"].training


def with_nan_after(calls):
    odd = (
        f"        odd: {{criterion: {{key: NaNAfter, kwargs: {{calls: {calls}}}}}, weight: 2.0}}\n"
    )
    return mixacm().replace("        acm:", f"{odd}        acm:")


def test_a_nan_stops_with_epoch_step_and_term_and_leaves_the_last_good_checkpoint():
    with pytest.raises(RecipeError, match=r"sub_terms\.odd: .*nan in epoch 2, step 2.*'odd'"):
        trained(with_nan_after(3))
    load_ckpt("out/student.pt", model=dm_wide_resnet(10, 1, 10), strict=True)
    assert saved()["epoch"] == 0
    assert all(torch.isfinite(value).all() for value in saved()["model"].values())


def test_a_nan_in_a_later_stage_names_its_stage():
    calls = "train.stage2.criterion.kwargs.sub_terms.odd.criterion.kwargs.calls=1"
    with pytest.raises(RecipeError, match=r"train\.stage2\.criterion.*\.odd: .*epoch 3, step 2"):
        trained(two_stages(with_nan_after(100)), calls)


def test_weights_that_stop_being_finite_are_not_saved():
    one_step = "train.train_data_loader.kwargs.batch_size=32"
    with pytest.raises(RecipeError, match=r"isn't finite after epoch 1; no checkpoint was written"):
        trained(mixacm().replace("20.0", "1.0e+5"), one_step, "train.optimizer.kwargs.lr=3.0e+38")
    assert not Path("out/student.pt").exists()


def test_reduce_lr_on_plateau_gets_the_validation_accuracy():
    kwargs = "{mode: max, patience: 0, factor: 0.1, threshold: 9.0}"  # nothing is better
    scheduler = f"train.scheduler={{key: ReduceLROnPlateau, kwargs: {kwargs}}}"
    training = trained(None, scheduler, "train.num_epochs=3")
    assert training.box.lr_scheduler.best == metrics()[0]["val_accuracy"]
    assert [line["lr"] for line in metrics()] == pytest.approx([0.05, 0.05, 0.005])


def test_a_term_called_loss_is_logged_like_any_other():
    trained(mixacm().replace("        acm:\n", "        loss:\n"))
    (line, _) = metrics()
    assert set(line["terms"]) == {"kd", "loss"}
    assert line["loss"] == pytest.approx(sum(line["terms"].values()), rel=1e-5)


def test_a_nan_in_the_first_epoch_of_a_run_says_that_nothing_was_saved():
    text = mixacm().replace("weight: 20.0", "weight: 1.0e+300")
    with pytest.raises(RecipeError, match="no checkpoint was written yet"):
        Training(recipe(text), CPU, start_epoch=1).run()


def test_a_first_epoch_behind_the_last_is_refused():
    with pytest.raises(RecipeError, match="--start_epoch: 2, counted from 0, of 2 epochs"):
        Training(recipe(), CPU, start_epoch=2)


def test_an_epochs_time_has_the_wait_for_the_device_at_its_end(monkeypatch):
    clock, read = [0.0], EpochSums.read

    def waited(sums):
        clock[0] += 5
        return read(sums)

    box = Training(recipe(), CPU, seed=0).box
    box.pre_epoch_process(epoch=0)
    monkeypatch.setattr(EpochSums, "read", waited)
    monkeypatch.setattr(epoch.time, "perf_counter", lambda: clock[0])
    assert train_steps(box, CPU, "", read_every=1000).seconds == 5
