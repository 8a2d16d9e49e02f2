"""A tiny recipe's run, and the files it leaves."""

import json
from pathlib import Path

import pytest
import torch

from mixacm_plugin import Training
from recipes import CPU, recipe

FIGURES = ("epoch", "loss", "terms", "lr", "val_accuracy", "best_val_accuracy")


def trained(text=None, *overrides, seed=0):
    training = Training(recipe(text, *overrides), CPU, seed)
    training.run()
    return training


def kill_in_epoch(training, epoch):
    """Let a run die in the middle of an epoch, counted from 0."""
    forward, steps = training.box.forward_process, iter(range(100))

    def dying(*args, **kwargs):
        if next(steps) == 2 * epoch + 1:  # of two steps an epoch, the second
            raise KeyboardInterrupt
        return forward(*args, **kwargs)

    training.box.forward_process = dying
    with pytest.raises(KeyboardInterrupt):
        training.run()


def saved(path="out/student.pt"):
    return torch.load(path, weights_only=False)


def metrics():
    return [json.loads(line) for line in Path("out/metrics.jsonl").read_text().splitlines()]


def figures():
    """What of each epoch doesn't depend on how long it took."""
    return [{name: line[name] for name in FIGURES} for line in metrics()]
