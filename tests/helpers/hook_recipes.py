"""MixACM of any two models, with the hook points that are found, on random images."""

import io
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import yaml

from mixacm_plugin import Recipe, hook_snippet, read_recipe
from mixacm_plugin.parts.models.normalization import model_by_key
from mixacm_plugin.preflight.inspection import Inspection, inspect_recipe
from recipes import CPU

TEMPLATE = """\
dependencies: [{name: mixacm_plugin}]
datasets:
  random: !import_call
    {key: mixacm_plugin.RandomImages, init: {kwargs: {n: 4, shape: SHAPE, num_classes: 10}}}
models: MODELS
test:
  test_data_loader: &loader
    dataset_id: random
    sampler: {class_or_func: !import_get {key: torch.utils.data.SequentialSampler}}
    kwargs: {batch_size: 2}
train:
  <<: TRAIN
  train_data_loader: *loader
  val_data_loader: *loader
"""
ENDS = {
    "student_module_path": ".",
    "student_module_io": "output",
    "teacher_module_path": ".",
    "teacher_module_io": "output",
}
KD = {"key": "KDLoss", "kwargs": {**ENDS, "temperature": 4, "alpha": 0.5, "beta": 0.5}}
TRAIN = {
    "num_epochs": 1,
    "teacher": {"forward_proc": "forward_batch_only", "requires_grad": False},
    "student": {"forward_proc": "forward_batch_only"},
    "optimizer": {"key": "SGD", "kwargs": {"lr": 0.001}},
    "criterion": {
        "key": "WeightedSumLoss",
        "kwargs": {"sub_terms": {"kd": {"criterion": KD, "weight": 1.0}}},
    },
}
Model = tuple[str, Mapping[str, Any]]


def hooked_recipe(teacher: Model, student: Model, shape: Sequence[int]) -> Recipe:
    """Write the recipe of two models, each a key and arguments, and read it."""
    pair = [model_by_key(key, **kwargs) for key, kwargs in (teacher, student)]
    train = merged(TRAIN, yaml.safe_load(hook_snippet(*pair, input_shape=shape)))
    models = {
        f"{role}_model": {"key": key, "kwargs": dict(kwargs)}
        for role, (key, kwargs) in (("teacher", teacher), ("student", student))
    }
    models["student_model"]["dst_ckpt"] = "student.pt"
    text = TEMPLATE
    for name, value in (("SHAPE", list(shape)), ("MODELS", models), ("TRAIN", train)):
        flow = yaml.safe_dump(value, default_flow_style=True, width=10**6)
        text = text.replace(f" {name}", f" {flow.strip()}")
    Path("hooked.yaml").write_text(text)
    return read_recipe("hooked.yaml")


def inspected(recipe: Recipe) -> Inspection:
    """What ``mixacm check --random-weights`` finds, without timing more than a step."""
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        return inspect_recipe(recipe, CPU, random_weights=True, seconds=0)


def merged(base: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Two mappings as one, at every level."""
    both = {**base, **new}
    for name in base.keys() & new.keys():
        if isinstance(base[name], Mapping):
            both[name] = merged(base[name], new[name])
    return both
