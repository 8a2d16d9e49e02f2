"""The loss read every few steps, as on an accelerator, where each reading waits for the device."""

import math

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torchdistill.losses.registry import register_mid_level_loss

from mixacm_plugin import Training
from mixacm_plugin.training.epoch import NotFiniteError, train_steps
from recipes import CPU, mixacm, recipe
from weights import differing, state


@register_mid_level_loss
class InfiniteOnce(nn.Module):
    """Zero, with a gradient, but infinite in one call."""

    def __init__(self, call):
        super().__init__()
        self.calls = -call

    def forward(self, student_io_dict, teacher_io_dict, targets):
        self.calls += 1
        return (math.inf if self.calls == 0 else 0.0) * student_io_dict["."]["output"].sum().exp()


class Readings(TorchDispatchMode):
    """Counts values that are read out of tensors, each of which waits for an accelerator."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def begun(text=None):
    small = "train.train_data_loader.kwargs.batch_size=4"
    training = Training(recipe(text or mixacm(), small), CPU, seed=0)
    training.box.pre_epoch_process(epoch=0)
    return training


def counted(function, readings):
    def call(*args, **kwargs):
        with readings:
            return function(*args, **kwargs)

    return call


@pytest.mark.parametrize("kind", [None, "affine"])
def test_no_step_reads_a_value_from_the_device(kind):
    training, readings = begun(mixacm(kind=kind)), Readings()
    for name in ("forward_process", "post_forward_process"):
        setattr(training.box, name, counted(getattr(training.box, name), readings))
    sums = train_steps(training.box, CPU, "", read_every=1000)
    assert sums.images > 0 and readings.count == 0
    with readings:
        assert next(training.models["student"].parameters()).sum().item() != 0
    assert readings.count == 1  # the count does count


def test_sums_and_weights_are_the_same_however_seldom_the_loss_is_read():
    kept = []
    for read_every in (1, 3, 1000):
        training = begun()
        sums = train_steps(training.box, CPU, "", read_every=read_every)
        kept.append((sums.images, sums.loss, sums.terms, state(training.models["student"])))
    for images, loss, terms, weights in kept[1:]:
        assert (images, loss, terms) == kept[0][:3]
        assert not differing(weights, kept[0][3])


@pytest.mark.parametrize("read_every", [1, 2, 1000])
def test_a_loss_that_is_not_finite_is_named_with_its_step_and_term(read_every):
    odd = "        odd: {criterion: {key: InfiniteOnce, kwargs: {call: 3}}, weight: 1.0}\n"
    training = begun(mixacm().replace("        acm:", f"{odd}        acm:"))
    with pytest.raises(NotFiniteError) as raised:
        train_steps(training.box, CPU, "", read_every=read_every)
    assert (raised.value.step, raised.value.term) == (2, "odd")
