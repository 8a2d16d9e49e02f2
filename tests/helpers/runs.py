"""A tiny recipe's run, and the files it leaves."""

import json
from pathlib import Path

import torch

from mixacm_plugin import Training
from recipes import CPU, recipe


def trained(text=None, *overrides, seed=0):
    training = Training(recipe(text, *overrides), CPU, seed)
    training.run()
    return training


def saved(path="out/student.pt"):
    return torch.load(path, weights_only=False)


def metrics():
    return [json.loads(line) for line in Path("out/metrics.jsonl").read_text().splitlines()]
