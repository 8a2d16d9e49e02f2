"""Random generators and modes of models: taken, set, and put back afterwards."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn


def rng_state() -> dict[str, Any]:
    """Return the state of all generators as tensors and plain values."""
    kind, keys, *rest = np.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(np.asarray(keys, np.int64)), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_rng_state(state: dict[str, Any]) -> None:
    """Put all generators back into a state from ``rng_state``."""
    kind, keys, *rest = state["numpy"]
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    for index, own in enumerate(state["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(own, index)


@contextmanager
def preserved_rng() -> Iterator[None]:
    """Leave the generators, after the block, as they were before it."""
    state = rng_state()
    try:
        yield
    finally:
        set_rng_state(state)


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Put a model into eval mode for a while, then each of its modules back as it was."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def preserved_modules(*models: nn.Module) -> Iterator[None]:
    """Leave models, after the block, as they were: buffers, gradients, modes and counters.

    Weights aren't looked at; no optimiser steps in the block.
    """
    modules = list({id(module): module for m in models for module in m.modules()}.values())
    plain = [_plain_attributes(module) for module in modules]
    buffers = [(m, n, b, b.clone()) for m in modules for n, b in m.named_buffers(recurse=False)]
    parameters = [p for module in modules for p in module.parameters(False)]
    gradients = [None if p.grad is None else p.grad.clone() for p in parameters]
    try:
        yield
    finally:
        for module, attributes in zip(modules, plain, strict=True):
            vars(module).update(attributes)
        with torch.no_grad():
            for module, name, buffer, before in buffers:
                setattr(module, name, buffer.copy_(before))
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient


def _plain_attributes(module: nn.Module) -> dict[str, Any]:
    # Among them is `training`, and what a module counts by itself.
    return {k: v for k, v in vars(module).items() if v is None or isinstance(v, int | float | str)}
