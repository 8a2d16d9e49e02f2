"""Where a step's time goes is measured on a recipe's own steps."""

import time

import pytest
import torch

from mixacm_plugin import Training
from mixacm_plugin.common.images import unpack
from mixacm_plugin.loading.models import build_models
from mixacm_plugin.preflight import step_times
from mixacm_plugin.preflight.inspection import inspect_recipe
from mixacm_plugin.preflight.step_times import timed_steps
from recipes import CPU, Few, mixacm, recipe, scratch


def times_of():
    return inspect_recipe(recipe(), CPU).stages[0].times


def test_the_parts_of_a_step_add_up():
    shares = times_of().shares()
    assert list(shares) == ["loader", "teacher", "student", "kd", "acm", "backward and optimiser"]
    assert sum(shares.values()) == pytest.approx(1)
    assert all(share > 0 for share in shares.values())


def test_all_replays_of_free_adversarial_training_are_in_a_steps_operations():
    free = "!import_call {key: mixacm_plugin.free_adversarial_forward, init: {kwargs: {%s}}}"
    found = []
    for replays in (1, 2):
        forward = "&free " + free % f"replays: {replays}, eps: 0.1"
        text = scratch(forward, "  post_forward_process: *free\n")
        found.append(inspect_recipe(recipe(text), CPU).stages[0])
    assert found[0].times.shares()["student"] > 0
    assert found[1].operations == pytest.approx(2 * found[0].operations)


def test_a_slow_data_set_is_the_loaders(monkeypatch):
    fast, load = times_of(), Few.__getitems__

    def slow(*args):
        time.sleep(0.05)
        return load(*args)

    monkeypatch.setattr(Few, "__getitems__", slow)
    monkeypatch.setattr(Few, "__getitem__", lambda self, index: slow(self, [index])[0])
    assert times_of().shares()["loader"] > fast.shares()["loader"]


def products(model, image):
    """Operations of one pass through a model, an image, and of its first convolution alone."""
    counted = []

    def note(module, args, output):
        positions = output[0].numel() // output.shape[1]
        counted.append(2 * module.weight.numel() * positions)

    layers = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
    handles = [layer.register_forward_hook(note) for layer in layers]
    model(image)
    for handle in handles:
        handle.remove()
    return sum(counted), counted[0]


def test_operations_are_those_of_convolutions_and_linear_layers():
    read = recipe()
    found = inspect_recipe(read, CPU).stages[0].operations
    image = Few("val", n=1)[0][0].unsqueeze(0)
    models = build_models(read, read.build())
    teacher, _ = products(models["teacher"].eval(), image)
    student, first = products(models["student"].eval(), image)
    # A backward pass has two products for each of the forward pass's, but no gradient of images.
    assert found == pytest.approx(teacher + 3 * student - first)


def test_a_term_that_has_a_models_name_has_a_time_of_its_own():
    changed = recipe(mixacm().replace("        kd:\n", "        student:\n"))
    shares = inspect_recipe(changed, CPU).stages[0].times.shares()
    assert list(shares)[1:5] == ["teacher", "student", "term student", "acm"]


def test_models_are_not_hooked_for_it_since_compiled_ones_would_be_compiled_anew(monkeypatch):
    box, seen = Training(recipe(), CPU, seed=0).box, []
    models = (box.teacher_model, box.student_model)

    def hooks():
        return [len(model._forward_pre_hooks) for model in models]

    def watched(*args):
        seen.append(hooks())
        return unpack(*args)

    before = hooks()

    monkeypatch.setattr(step_times, "unpack", watched)
    timed_steps(box, CPU, 0.0)
    assert seen == [before]
