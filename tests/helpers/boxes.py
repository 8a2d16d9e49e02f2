"""The host's boxes: of a recipe, and around a tiny model and a few images of a test's own."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import SequentialSampler, TensorDataset
from torchdistill.common.yaml_util import load_yaml_file
from torchdistill.core.distillation import DistillationBox, get_distillation_box
from torchdistill.core.training import TrainingBox, get_training_box

from mixacm_plugin import Recipe
from mixacm_plugin.loading.models import build_models
from recipes import CPU

CROSS_ENTROPY = {
    "criterion": {"key": "CrossEntropyLoss", "kwargs": {}},
    "criterion_wrapper": {
        "key": "SimpleLossWrapper",
        "kwargs": {
            "input": {"is_from_teacher": False, "module_path": ".", "io": "output"},
            "target": {"uses_label": True},
        },
    },
    "weight": 1.0,
}


def host_box(made: Recipe) -> tuple[dict[str, nn.Module], TrainingBox | DistillationBox]:
    """Models with weights, and the box that the host's script builds of the same YAML."""
    models = build_models(made, made.build())
    Path("whole.yaml").write_text(made.text())
    config = load_yaml_file("whole.yaml")
    args = (config["datasets"], config["train"], CPU, None, False, 1)
    if "teacher" in models:
        return models, get_distillation_box(models["teacher"], models["student"], *args)
    return models, get_training_box(models["student"], *args)


def conv_net() -> nn.Sequential:
    """A classifier of the digits with BatchNorm."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10)
    )


def training_box(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    forward_proc: str = "forward_batch_only",
    *,
    lr: float = 0.1,
    grad_accum_step: int = 1,
    **processes: str,
) -> TrainingBox:
    """A box that trains and validates on batches of 8, in their order, by SGD with momentum."""
    loader = {
        "dataset_id": "images",
        "sampler": {"class_or_func": SequentialSampler},
        "kwargs": {"batch_size": 8},
    }
    train = {
        "num_epochs": 1,
        "train_data_loader": loader,
        "val_data_loader": dict(loader),
        "model": {"forward_proc": forward_proc},
        "optimizer": {
            "key": "SGD",
            "kwargs": {"lr": lr, "momentum": 0.9},
            "grad_accum_step": grad_accum_step,
        },
        "criterion": {"key": "WeightedSumLoss", "kwargs": {"sub_terms": {"ce": CROSS_ENTROPY}}},
        **processes,
    }
    datasets = {"images": TensorDataset(images, labels)}
    return get_training_box(model, datasets, train, CPU, None, False, 1)


def train_epoch(box: TrainingBox | DistillationBox) -> list[float]:
    """Train an epoch as the host's script does, and return the loss of each step."""
    losses = []
    box.pre_epoch_process(epoch=0)
    for images, targets, extra in box.train_data_loader:
        loss = box.forward_process(images, targets, extra)
        losses.append(loss.item())
        box.post_forward_process(loss=loss)
    box.post_epoch_process()
    assert torch.tensor(losses).isfinite().all()
    return losses
