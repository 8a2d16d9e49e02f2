"""Free adversarial training, against a plain loop and by its promises."""

import copy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torchdistill.core.interfaces.registry import (
    get_forward_proc_func,
    get_post_forward_proc_func,
)

from boxes import conv_net, train_epoch, training_box
from mixacm_plugin import RecipeError, Training, free_adversarial_forward
from mixacm_plugin.parts.adversarial.threat_model import perturbation_size
from mixacm_plugin.training.boxes import stand_ins
from recipes import CPU, digits, mixacm, recipe, run, scratch, write
from weights import differing, state

EPS = {"Linf": 0.1, "L2": 1.0}
FREE = "!import_call {key: mixacm_plugin.free_adversarial_forward, init: {kwargs: {%s}}}"
LINE = "  log_freq: 100\n"


def first_digits(n):
    data = digits("train")
    return data.images[:n].double(), torch.tensor(data.targets[:n])


def free_box(model, images, labels, **attack):
    """A box under free adversarial training, and its process."""
    grad_accum_step = attack.pop("grad_accum_step", 1)
    key = free_adversarial_forward(**attack)
    box = training_box(
        model, images, labels, key, post_forward_process=key, grad_accum_step=grad_accum_step
    )
    return box, get_post_forward_proc_func(key)


def recorded_inputs(model):
    seen = []
    model.register_forward_pre_hook(lambda module, args: seen.append(args[0].detach()))
    return seen


def plain_free_training(model, images, labels, *, replays, eps, step_size, norm, epochs):
    """Algorithm 1 of the paper, in plain PyTorch."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    noise = torch.zeros_like(images[:8])
    for _ in range(epochs):
        for x, y in zip(images.split(8), labels.split(8), strict=True):
            for _ in range(replays):
                attacked = (x + noise[: len(x)]).clamp(0, 1).requires_grad_()
                optimizer.zero_grad()
                F.cross_entropy(model(attacked), y).backward()
                optimizer.step()
                for i, gradient in enumerate(attacked.grad):
                    if norm == "Linf":
                        noise[i] = (noise[i] + step_size * gradient.sign()).clamp(-eps, eps)
                    else:
                        noise[i] += step_size * gradient / max(gradient.norm(), 1e-12)
                        noise[i] *= min(1, eps / noise[i].norm())
                    noise[i] = (x[i] + noise[i]).clamp(0, 1) - x[i]


@pytest.mark.parametrize("norm", EPS)
@pytest.mark.parametrize("step_size", [None, 0.04])
def test_free_training_ends_with_the_weights_of_a_plain_loop(norm, step_size):
    images, labels = first_digits(20)  # the last batch of an epoch is smaller
    attack = {"replays": 3, "eps": EPS[norm], "step_size": step_size, "norm": norm}
    model = conv_net().double()
    plain, untrained = copy.deepcopy(model), state(model)
    box, _ = free_box(model, images, labels, **attack)
    for _ in range(2):
        train_epoch(box)
    attack["step_size"] = step_size or EPS[norm]
    plain_free_training(plain, images, labels, epochs=2, **attack)
    assert set(differing(untrained, state(model))) == set(untrained)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value, atol=1e-10, rtol=0)


@pytest.mark.parametrize("replays, grad_accum_step", [(1, 1), (4, 1), (1, 3)])
def test_a_batch_costs_as_many_backward_passes_as_replays(replays, grad_accum_step):
    images, labels = first_digits(24)
    model, steps = conv_net().double(), []
    box, _ = free_box(
        model, images, labels, replays=replays, eps=0.1, grad_accum_step=grad_accum_step
    )
    box.optimizer.register_step_post_hook(lambda *_: steps.append(1))
    seen = recorded_inputs(model)
    train_epoch(box)
    assert box.stage_grad_count == len(seen) == 3 * replays
    assert len(steps) == 3 * replays // grad_accum_step
    assert model[1].num_batches_tracked == 3 * replays  # in the model's own mode


@pytest.mark.parametrize("norm", EPS)
def test_the_perturbation_is_kept_in_the_ball_and_images_in_the_pixels_range(norm):
    images, labels = first_digits(16)
    model = conv_net().double()
    box, free = free_box(model, images, labels, replays=3, eps=EPS[norm], norm=norm)
    seen = recorded_inputs(model)
    train_epoch(box)
    assert torch.equal(seen[0], images[:8])
    for clean, perturbed in zip(images.split(8), (seen[1:3], seen[3:]), strict=True):
        for attacked in perturbed:
            size = perturbation_size(attacked - clean, norm)
            assert 0 < size.max() <= EPS[norm] + 1e-9
            assert attacked.min() >= 0 and attacked.max() <= 1
    assert perturbation_size(free.perturbation, norm).max() <= EPS[norm] + 1e-9


@pytest.mark.parametrize("norm", EPS)
def test_black_and_white_pixels_are_perturbed_too_and_again_after_a_step_out_of_the_range(norm):
    images = torch.rand(8, 3, 8, 8).round().double()
    model = conv_net().double()
    box, free = free_box(model, images, torch.arange(8), replays=6, eps=EPS[norm], norm=norm)
    seen = recorded_inputs(model)
    train_epoch(box)
    moved = [attacked != images for attacked in seen[1:]]
    assert moved[0].any() and not moved[0].all()  # some of the first steps lead out of it
    assert any((later & ~moved[0]).any() for later in moved)
    assert torch.equal(images + free.perturbation, (images + free.perturbation).clamp(0, 1))


def test_the_perturbation_goes_on_with_the_next_batch_and_starts_anew_with_other_images():
    images, labels = first_digits(16)
    model = conv_net().double()
    box, free = free_box(model, images, labels, replays=2, eps=0.1)
    kept = []
    model.register_forward_pre_hook(lambda *_: kept.append(free.perturbation.clone()))
    seen = recorded_inputs(model)
    train_epoch(box)
    assert kept[2].abs().max() > 0
    torch.testing.assert_close(seen[2], (images[8:] + kept[2]).clamp(0, 1))
    for x, y in ((images[:5], labels[:5]), (images[:9], labels[:9])):
        box.post_forward_process(loss=box.forward_process(x, y, None))
    torch.testing.assert_close(seen[4], (images[:5] + kept[4][:5]).clamp(0, 1))
    assert torch.equal(seen[6], images[:9])


def test_a_trial_leaves_no_trace_and_no_batch_is_held_after_a_step():
    images, labels = first_digits(8)
    box, free = free_box(conv_net().double(), images, labels, replays=2, eps=0.1)
    with stand_ins(box):
        box.forward_process(images, labels, None).backward()
    assert free.perturbation is None and free.batch is None
    loss = box.forward_process(images, labels, None)
    assert free.batch is not None
    box.post_forward_process(loss=loss)
    assert free.batch is None
    loss = box.forward_process(images, labels, None)
    box.criterion = None  # so that the replay fails
    with pytest.raises(TypeError):
        box.post_forward_process(loss=loss)
    assert free.batch is None


def test_a_student_under_a_teacher_is_trained_free_too():
    text = mixacm().replace(LINE, LINE + "  post_forward_process: *free\n")
    text = text.replace(
        "student:\n    forward_proc: forward_batch_only", "student:\n    forward_proc: *free"
    )
    text = text.replace("models:", f"free: &free {FREE % 'replays: 3, eps: 0.1'}\nmodels:", 1)
    training = Training(recipe(text), CPU, seed=0)
    teacher = state(training.models["teacher"])
    training.run()
    assert training.box.stage_grad_count == 2 * 2 * 3  # epochs, batches, replays
    assert not differing(teacher, state(training.models["teacher"]))


every_command = pytest.mark.parametrize(
    "command", [("torchdistill", "--config"), ("main", "check")]
)


def half(forward_eps=None, post_forward_eps=None):
    """A recipe that names the process in one place, or two differing ones."""
    forward, post_forward = (
        FREE % f"replays: 2, eps: {eps}" for eps in (forward_eps, post_forward_eps)
    )
    text = scratch(forward if forward_eps else "forward_batch_only")
    if post_forward_eps:
        text = text.replace(LINE, f"{LINE}  post_forward_process: {post_forward}\n")
    return text


@pytest.mark.parametrize(
    "places, said",
    [
        ({"forward_eps": 0.1}, "it is the model's forward_proc, but not the post_forward_process"),
        ({"post_forward_eps": 0.1}, "it is the post_forward_process, but not the model's"),
        (
            {"forward_eps": 0.1, "post_forward_eps": 0.2},
            "it is the model's forward_proc, but not the post_forward_process",
        ),
    ],
    ids=["forward_proc", "post_forward_process", "differing"],
)
@every_command
def test_a_recipe_that_names_half_of_it_is_told_what_to_write(command, places, said, capsys):
    assert run(*command, write(half(**places)), "--device", "cpu") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"free_adversarial_forward: {said}" in line
    assert "forward_proc: &free" in line and "post_forward_process: *free" in line


@every_command
def test_replays_that_gradient_accumulation_would_give_the_same_weights_are_refused(
    command, capsys
):
    text = half(forward_eps=0.1, post_forward_eps=0.1)  # both halves
    text = text.replace("    key: SGD\n", "    key: SGD\n    grad_accum_step: 4\n")
    assert run(*command, write(text), "--device", "cpu") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "free_adversarial_forward: the optimizer's grad_accum_step is 4" in line
    assert not Path("out/student.pt").exists()


def test_another_forward_process_runs_the_trial_and_every_replay():
    images, labels = first_digits(16)
    model, kinds = conv_net(), []
    box, _ = free_box(model, images.float(), labels, replays=2, eps=0.1, forward="forward_bf16")
    model[-1].register_forward_hook(lambda *args: kinds.append(args[2].dtype))
    with stand_ins(box):
        box.forward_process(images[:8].float(), labels[:8], None)
    train_epoch(box)
    assert kinds == [torch.bfloat16] * 5


def test_each_configuration_has_a_key_of_its_own_for_both_processes():
    base = {"replays": 4, "eps": "8/255"}
    changes = [{}, {"replays": 2}, {"eps": 0.1}, {"step_size": 0.01}, {"norm": "L2"}]
    changes.append({"forward": "forward_bf16"})
    keys = {free_adversarial_forward(**{**base, **change}) for change in changes}
    assert len(keys) == 6
    assert free_adversarial_forward(4, 8 / 255, 8 / 255) in keys
    for key in keys:
        assert get_forward_proc_func(key).__self__ is get_post_forward_proc_func(key)


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"replays": 0}, "replays must be a whole number of at least 1; found 0"),
        ({"replays": 4.0}, "replays must be a whole number of at least 1; found 4.0"),
        ({"replays": "4"}, "replays must be a whole number of at least 1; found '4'"),
        ({"replays": True}, "replays must be a whole number of at least 1; found True"),
        ({"eps": "eight"}, "eps: expected a number"),
        ({"eps": -0.1}, "eps: expected a finite number"),
        ({"eps": 8}, "eps is in pixels"),
        ({"step_size": "2/0"}, "step_size: expected a number"),
        ({"norm": "L1"}, "norm must be one of"),
        ({"forward": "forward_bf61"}, "forward: no forward process .* Did you mean 'forward_bf16'"),
    ],
)
def test_an_invalid_argument_is_refused_by_name(wrong, said):
    with pytest.raises(ValueError, match=f"^free_adversarial_forward: {said}"):
        free_adversarial_forward(**{"replays": 4, "eps": 0.1, **wrong})


def test_a_ball_that_holds_more_than_all_images_is_refused():
    attack = FREE % "replays: 2, eps: 128, norm: L2"
    text = scratch(f"&free {attack}", "  post_forward_process: *free\n")
    with pytest.raises(RecipeError, match=r"eps is in pixels .* found 128, is it 128/255"):
        Training(recipe(text), CPU)
