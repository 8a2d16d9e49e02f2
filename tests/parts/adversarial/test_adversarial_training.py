"""Adversarial training: what its forward process does, and all its methods under the host."""

import copy
import logging
import os
from pathlib import Path

import foolbox
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torchdistill.core.forward_hook import ForwardHookManager
from torchdistill.core.interfaces.registry import (
    get_forward_proc_func,
    register_forward_proc_func,
)

import recipes
from boxes import conv_net, train_epoch, training_box
from mixacm_plugin import (
    Training,
    adversarial_forward,
    free_adversarial_forward,
    pgd,
    watch_overfitting,
)
from mixacm_plugin.common.distributed import init_process_group
from mixacm_plugin.parts.adversarial.threat_model import random_perturbation
from processes import run_processes
from recipes import CPU, recipe, scratch, soft
from weights import differing, state


@pytest.fixture(scope="module")
def digits():
    data = recipes.digits("test")
    return data.images, torch.tensor(data.targets)


@pytest.fixture
def student():
    """A model in train mode, of which a second BatchNorm is deliberately in eval mode."""
    model = conv_net()
    model.insert(3, nn.BatchNorm2d(8))
    model[3].eval()
    return model


def adversarial_pass(model, images, labels, **attack):
    """Return the host's forward process, its output and what hooks then hold, by module path."""
    hooks = ForwardHookManager(torch.device("cpu"))
    for path in ("0", "5"):
        hooks.add_hook(model, path)
    process = get_forward_proc_func(adversarial_forward(**attack))
    output = process(model, images, targets=labels, supp_dict=None)
    return output, hooks.pop_io_dict()


PGD7 = {"eps": "8/255", "step_size": "2/255", "steps": 7}


def test_adversarial_training_updates_the_running_statistics_once_a_step(student, digits):
    before = copy.deepcopy(student.state_dict())
    adversarial_pass(student, digits[0][:32], digits[1][:32], **PGD7)
    assert student[1].num_batches_tracked == before["1.num_batches_tracked"] + 1
    assert student[3].num_batches_tracked == before["3.num_batches_tracked"]
    modes = [module.training for module in student]
    assert student.training and modes == [True, True, True, False, True, True]


def test_hooks_and_loss_see_the_final_pass_on_adversarial_images(student, digits):
    images, labels = digits[0][:32], soft(digits[1][:32])
    twin = copy.deepcopy(student)
    output, hooked = adversarial_pass(student, images, labels, **PGD7)
    adversarial = hooked["0"]["input"]
    size = (adversarial - images).abs().max()
    assert size == pytest.approx(8 / 255, abs=1e-6)
    assert hooked["5"]["output"] is output
    torch.testing.assert_close(twin(adversarial), output)
    assert F.cross_entropy(output, labels) > F.cross_entropy(twin(images), labels)


def test_the_attack_sees_the_model_in_eval_mode_and_leaves_no_gradient(student, digits):
    images, labels = digits[0][:32], digits[1][:32]
    twin = copy.deepcopy(student).eval()
    attack = {"eps": 0.1, "step_size": 0.05, "steps": 2, "random_start": False, "norm": "L2"}
    output, hooked = adversarial_pass(student, images, labels, **attack)
    torch.testing.assert_close(hooked["0"]["input"], pgd(twin, images, labels, **attack))
    assert all(p.grad is None for p in student.parameters())
    output.sum().backward()
    assert all(p.grad is not None for p in student.parameters())


def test_each_configuration_has_a_key_of_its_own():
    changes = [{}, {"eps": 0.1}, {"step_size": 0.1}, {"steps": 1}, {"random_start": False}]
    keys = {adversarial_forward(**{**PGD7, **change}) for change in [*changes, {"norm": "L2"}]}
    assert len(keys) == 6
    assert adversarial_forward(**{**PGD7, "eps": 8 / 255}) in keys
    assert all(callable(get_forward_proc_func(key)) for key in keys)


FOOLBOX = {"Linf": foolbox.attacks.LinfPGD, "L2": foolbox.attacks.L2PGD}


@pytest.mark.parametrize("norm", FOOLBOX)
@pytest.mark.parametrize("steps", [1, 7])
def test_training_is_on_foolboxs_images_from_the_same_random_start(norm, steps, student, digits):
    images, labels = digits[0][:32].double(), digits[1][:32]
    student = student.double()
    eps = {"Linf": 0.1, "L2": 1.0}[norm]
    attack = {"eps": eps, "step_size": eps / 3, "steps": steps, "norm": norm}

    class FromTheSameStart(FOOLBOX[norm]):
        def get_random_start(self, x0, epsilon):
            torch.manual_seed(1)
            return x0 + random_perturbation(images, eps=epsilon, norm=norm)

    theirs = FromTheSameStart(abs_stepsize=eps / 3, steps=steps, random_start=True)
    bounded = foolbox.PyTorchModel(copy.deepcopy(student).eval(), bounds=(0, 1))
    expected, _, _ = theirs(bounded, images, labels, epsilons=eps)
    torch.manual_seed(1)
    _, hooked = adversarial_pass(student, images, labels, **attack)
    torch.testing.assert_close(hooked["0"]["input"], expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"steps": 0}, "steps"),
        ({"steps": -1}, "steps"),
        ({"steps": 7.0}, "steps"),
        ({"steps": "7"}, "steps"),
        ({"steps": True}, "steps"),
        ({"eps": "eight"}, "eps"),
        ({"eps": -0.1}, "eps"),
        ({"eps": None}, "eps"),
        ({"eps": 8, "step_size": 2}, "^adversarial_forward: eps is in pixels .* is it 8/255"),
        ({"step_size": "2/0"}, "step_size"),
        ({"step_size": float("nan")}, "step_size"),
        ({"norm": "L1"}, "norm"),
        ({"random_start": "False"}, "random_start"),
        ({"forward": "forward_bf32"}, "forward: .*Did you mean 'forward_bf16'"),
    ],
)
def test_an_invalid_argument_of_the_attack_is_refused_by_name(wrong, named):
    with pytest.raises(ValueError, match=named):
        adversarial_forward(**{**PGD7, **wrong})


@pytest.mark.parametrize(
    "change, warned",
    [
        ({"eps": 0.15, "random_start": False}, True),
        ({"eps": 0.15}, False),  # from a random start it may
        ({"random_start": False}, False),
    ],
)
def test_steps_from_the_image_that_cannot_reach_the_edge_are_warned_of(change, warned, caplog):
    adversarial_forward(**{**PGD7, **change})
    lines = [record.message for record in caplog.records if record.name == "mixacm"]
    said = (
        "adversarial_forward: 7 steps of 0.00784 from near the image can't reach the edge of the "
        "ball, ε = 0.15"
    )
    assert lines == [said] * warned


def test_another_forward_process_runs_the_model_in_the_attack_too(student, digits):
    kinds = []

    @register_forward_proc_func(key="tests_forward")
    def forward(model, sample_batch, targets=None, supp_dict=None, **_):
        kinds.append(model.training)
        return model(sample_batch)

    process = get_forward_proc_func(adversarial_forward(**PGD7, forward="tests_forward"))
    process(student.train(), *digits)
    assert kinds == [False] * 7 + [True]


def pgd7():
    return {"forward_proc": adversarial_forward(**PGD7)}


def fast():
    return {
        "forward_proc": adversarial_forward(eps="8/255", step_size="10/255", steps=1),
        "post_epoch_process": watch_overfitting(eps="8/255", step_size="2/255"),
    }


def free():
    key = free_adversarial_forward(replays=4, eps="8/255")
    return {"forward_proc": key, "post_forward_process": key}


@pytest.mark.parametrize("method", [pgd7, fast, free])
def test_every_method_lowers_the_loss_of_a_batch_under_the_host(method, digits):
    box = training_box(conv_net(), digits[0][:8], digits[1][:8], lr=0.02, **method())
    losses = [train_epoch(box)[0] for _ in range(10)]
    assert max(losses[-3:]) < 0.5 * losses[0]


METHODS = ["pgd7_at", "fast_at", "free_at"]


@pytest.mark.parametrize("method", METHODS)
def test_an_override_file_turns_a_recipe_into_adversarial_training(method, caplog):
    caplog.set_level(logging.INFO, logger="mixacm")
    plain = Training(recipe(scratch()), CPU, seed=0)
    plain.run()
    training = Training(recipe(scratch(), f"compare/{method}"), CPU, seed=0)
    training.run()
    replays = 4 if method == "free_at" else 1
    assert training.box.stage_grad_count == replays * plain.box.stage_grad_count
    weights = state(training.models["student"])
    assert set(differing(state(plain.models["student"]), weights)) >= {
        name for name, _ in training.models["student"].named_parameters()
    }
    watched = [record.message for record in caplog.records if "FGSM" in record.message]
    assert len(watched) == (2 if method == "fast_at" else 0)


def train_in_a_process(rank, folder):
    for method in METHODS[1:]:
        mine = Path(folder, method, str(rank))
        mine.mkdir(parents=True)
        os.chdir(mine)
        logging.basicConfig(filename="log", level=logging.INFO, format="%(message)s", force=True)
        init_process_group(CPU, f"file://{folder}/{method}.group")
        training = Training(recipe(scratch(), f"compare/{method}"), CPU, seed=0)
        training.run()
        parameters = {n: p.detach() for n, p in training.models["student"].named_parameters()}
        torch.save(parameters, "end.pt")
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    """Where both have trained, each in a folder of its own."""
    folder = tmp_path_factory.mktemp("two_processes")
    run_processes(train_in_a_process, folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS[1:])
def test_two_processes_end_with_the_same_weights(method, two_processes):
    first, second = (torch.load(two_processes / method / str(rank) / "end.pt") for rank in (0, 1))
    assert not differing(first, second)


@pytest.mark.slow
def test_only_the_main_process_watches(two_processes):
    logs = [(two_processes / "fast_at" / str(rank) / "log").read_text() for rank in (0, 1)]
    assert [log.count("accuracy FGSM") for log in logs] == [2, 0]


def test_a_ball_that_holds_more_than_all_images_is_refused(student, digits):
    forward = get_forward_proc_func(adversarial_forward(**{**PGD7, "eps": 128, "norm": "L2"}))
    with pytest.raises(ValueError, match=r"eps is in pixels .* found 128, is it 128/255"):
        forward(student, *digits)
