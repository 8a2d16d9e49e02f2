"""Two processes train as one: half a batch each, BatchNorm in eval mode, mixed beforehand."""

import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from mixacm_plugin import Training
from mixacm_plugin.common.distributed import init_process_group
from mixacm_plugin.training.box_state import learnable_transforms
from mixacm_plugin.training.boxes import models_of
from processes import PROCESSES, run_processes
from recipes import CPU, digits, mixacm, recipe, scratch, soft
from weights import state

pytestmark = pytest.mark.slow
STEPS, BATCH = 5, 64
BALL = "eps: 1, step_size: 0.5, steps: 2, norm: L2"  # no sign, which rounding turns over
CALL = "!import_call {{key: mixacm_plugin.{}, init: {{kwargs: {{{}}}}}}}"
ADVERSARIAL = scratch(CALL.format("adversarial_forward", f"{BALL}, random_start: False"))
RECIPES = {  # each with how far it may be off
    "ACM": (mixacm(), (), 1e-5),
    "affine": (mixacm(2, 1, "affine"), (), 1e-5),
    "adversarial forwards": (ADVERSARIAL, (), 1e-5),
    "ACM in bf16": (mixacm(), ("compute.precision=bf16", "compute.channels_last=True"), 1e-2),
}


def batch_of(step):
    """Mixed images and labels of a step, the same in every process."""
    samples = [digits("train")[step * BATCH + index] for index in range(BATCH)]
    images = torch.stack([image for image, _ in samples])
    labels = torch.tensor([label for _, label in samples])
    return 0.7 * images + 0.3 * images.roll(1, 0), soft(labels)


def trained_on_shares(name, rank=0, world=1):
    """Weights after some steps on this process's share of each batch, and its own labels."""
    text, overrides, _ = RECIPES[name]
    training = Training(recipe(text, *overrides), CPU, seed=0)
    box, student = training.box, training.models["student"]
    mixed = next(iter(box.train_data_loader))[1]
    box.pre_epoch_process(epoch=0)
    for model in models_of(box).values():
        model.eval()
    own = slice(rank * BATCH // world, (rank + 1) * BATCH // world)
    for step in range(STEPS):
        images, labels = batch_of(step)
        loss = box.forward_process(images[own], labels[own], {})
        box.post_forward_process(loss=loss)
    transforms = learnable_transforms(box)
    kept = {} if transforms is None else state(transforms)
    return {"student": state(student), "transforms": kept, "mixed": mixed}


def process(rank, folder):
    for number, name in enumerate(RECIPES):
        mine = Path(folder, f"{number}-{rank}")
        mine.mkdir()
        os.chdir(mine)
        init_process_group(CPU, f"file://{folder}/{number}.group")
        torch.save(trained_on_shares(name, rank, PROCESSES), "end.pt")
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where both processes have left their weights."""
    folder = tmp_path_factory.mktemp("equivalence")
    run_processes(process, folder)
    return folder


def ends(folder, name):
    number = list(RECIPES).index(name)
    return [torch.load(folder / f"{number}-{rank}" / "end.pt") for rank in range(PROCESSES)]


@pytest.mark.parametrize("name", RECIPES)
def test_two_halves_of_a_batch_are_a_whole_one(name, folder, tmp_path):
    os.chdir(tmp_path)
    whole, off = trained_on_shares(name), RECIPES[name][2]
    untrained = state(Training(recipe(RECIPES[name][0]), CPU, seed=0).models["student"])
    for end in ends(folder, name):
        for part in ("student", "transforms"):
            for key, value in whole[part].items():
                torch.testing.assert_close(end[part][key], value, rtol=0, atol=off, msg=key)
    weight = next(iter(untrained))
    assert (whole["student"][weight] - untrained[weight]).abs().max() > 10 * off
    assert bool(whole["transforms"]) == (name == "affine")


def test_each_process_mixes_with_a_factor_of_its_own(folder):
    one, other = (end["mixed"].amax(1).amin() for end in ends(folder, "ACM"))
    assert one < 1 and other < 1
    assert one != other
