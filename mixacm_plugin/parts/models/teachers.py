"""Published robust teachers: what they are, where their files are, and how to build them."""

import logging
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchdistill.models.registry import get_model, register_model

from ...common.checkpoints import CheckpointError, cached_file, is_url
from ...common.downloads import DownloadError, download, file_name
from ...common.errors import nearest
from ...common.files import sha256_of
from .hook_points import hook_points
from .hooks.points import HookPoints
from .published import load_published

logger = logging.getLogger("mixacm")

GOWAL_FILES = "https://storage.googleapis.com/dm-adversarial-robustness"
GOWAL_PAGE = "https://github.com/deepmind/deepmind-research/tree/master/adversarial_robustness"
HENDRYCKS_PAGE = "https://drive.google.com/drive/folders/1bqipqqZF8hTcEP4Kn0lb8TfH4Sny6ANX"
SALMAN_PAGE = "https://huggingface.co/madrylab/robust-imagenet-models"
IMAGENET_MEAN, IMAGENET_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


@dataclass(frozen=True)
class Teacher:
    """A published robust model.

    Args:
        key: of the registered model that builds it.
        kwargs: that model's arguments.
        architecture: in words.
        dataset: what it classifies, with the input size.
        num_classes: number of logits.
        norm: of the threat model that it was trained for.
        eps: of that threat model, in pixels of range [0, 1].
        clean: published clean accuracy in %; ``None`` where no source was found.
        robust: published accuracy in % under ``attack`` in that threat model, likewise.
        attack: what ``robust`` was measured with.
        source: of the figures.
        page: where the authors publish the file.
        file: its name in torch.hub's folder of checkpoints.
        url: of the file, where there is a direct one.
        published_as: the file's name on that page, where it isn't ``file``.
        sha256: of the file, where a source for it was found.
    """

    key: str
    architecture: str
    dataset: str
    num_classes: int
    eps: str
    source: str
    page: str
    file: str
    url: str | None = None
    published_as: str | None = None
    kwargs: dict[str, Any] = field(default_factory=dict)
    norm: str = "Linf"
    clean: float | None = None
    robust: float | None = None
    attack: str | None = None
    sha256: str | None = None

    def build(self) -> nn.Module:
        """Return the model, without weights of its own."""
        model: nn.Module = get_model(self.key, None, **self.kwargs)
        return model

    def outline(self) -> tuple[HookPoints, int]:
        """Return the hook points of its blocks and the number of its parameters."""
        with torch.device("meta"):
            model = self.build()
        return hook_points(model), sum(parameter.numel() for parameter in model.parameters())


def _gowal(depth: int, width: int, data: str, clean: float, robust: float) -> Teacher:
    file = f"cifar10_linf_wrn{depth}-{width}_{data}.pt"
    return Teacher(
        key="dm_wide_resnet",
        kwargs={"depth": depth, "width": width, "num_classes": 10},
        architecture=f"WideResNet-{depth}-{width}, Swish",
        dataset="CIFAR-10" + (" and extra images" if data == "with" else ""),
        num_classes=10,
        eps="8/255",
        clean=clean,
        robust=robust,
        attack="AutoAttack",
        source="Gowal et al. 2020 (arXiv 2010.03593), the authors' page",
        page=GOWAL_PAGE,
        url=f"{GOWAL_FILES}/{file}",
        file=file,
    )


def _hendrycks(
    name: str, dataset: str, num_classes: int, published_as: str, **figures: Any
) -> Teacher:
    return Teacher(
        key="hendrycks_wide_resnet",
        kwargs={"depth": 28, "width": 10, "num_classes": num_classes},
        architecture="WideResNet-28-10, ReLU",
        dataset=dataset,
        num_classes=num_classes,
        eps="8/255",
        page=HENDRYCKS_PAGE,
        file=f"{name}.pt",  # the published names are used for other, non-robust models as well
        published_as=published_as,
        **figures,
    )


# The paper's WideResNet-34-20 of Gowal et al. can only be the one trained without extra images: no
# other of that size was published.
TEACHERS: dict[str, Teacher] = {
    "gowal2020_wrn28_10_extra": _gowal(28, 10, "with", 89.48, 62.80),
    "gowal2020_wrn34_20": _gowal(34, 20, "without", 85.64, 56.86),
    # The names of Hendrycks et al.'s files are those that robustness/adversarial/{tune,
    # train_imagenet}.py of github.com/hendrycks/pre-training write, with the last epoch of the
    # results beside them; the clean accuracies there agree with RobustBench's.
    "hendrycks2019_cifar10": _hendrycks(
        "hendrycks2019_cifar10",
        "CIFAR-10, pre-trained on ImageNet 32×32",
        10,
        "cifar10wrn_baseline_epoch_4.pt (adversarial, tuned)",
        clean=87.11,
        robust=54.92,
        attack="AutoAttack",
        source="RobustBench, model_info/cifar10/Linf/Hendrycks2019Using.json",
    ),
    "hendrycks2019_cifar100": _hendrycks(
        "hendrycks2019_cifar100",
        "CIFAR-100, pre-trained on ImageNet 32×32",
        100,
        "cifar100wrn_baseline_epoch_4.pt (adversarial, tuned)",
        clean=59.23,
        robust=28.42,
        attack="AutoAttack",
        source="RobustBench, model_info/cifar100/Linf/Hendrycks2019Using.json",
    ),
    "hendrycks2019_imagenet32": _hendrycks(
        "hendrycks2019_imagenet32",
        "ImageNet 32×32",
        1000,
        "imagenet_wrn_baseline_epoch_99.pt (adversarial, untargeted)",
        clean=29.75,
        source="results in robustness/adversarial/snapshots/imagenet_unt_10 of the code",
    ),
    "salman2020_resnet50": Teacher(
        key="normalized",
        kwargs={
            "model": "resnet50",
            "model_kwargs": {},
            "mean": IMAGENET_MEAN,
            "std": IMAGENET_STD,
        },
        architecture="ResNet-50",
        dataset="ImageNet 224×224",
        num_classes=1000,
        eps="4/255",
        clean=64.02,
        robust=34.96,
        attack="AutoAttack, 5,000 images",
        source="RobustBench, model_info/imagenet/Linf/Salman2020Do_R50.json",
        page=SALMAN_PAGE,
        url=f"{SALMAN_PAGE}/resolve/main/resnet50_linf_eps4.0.ckpt",
        file="resnet50_linf_eps4.0.ckpt",
    ),
}


@register_model
def robust_teacher(
    name: str, checkpoint: str | bool | None = None, sha256: str | None = None
) -> nn.Module:
    """Build a published robust model with its weights; it takes images in [0, 1].

    Args:
        name: one of ``TEACHERS``; ``mixacm teachers`` lists them.
        checkpoint: file, or URL, in the authors' own layout; by default what they publish, kept in
            torch.hub's folder of checkpoints. ``False`` leaves the weights random.
        sha256: of the file, which is refused if it has another one.

    Raises:
        ValueError: on an unknown name.
        CheckpointError: if the file can't be had, or isn't of this model.

    Source: see ``mixacm teachers``.
    """
    if name not in TEACHERS:
        raise ValueError(
            f"robust_teacher: no published teacher {name!r}; there are {', '.join(TEACHERS)}."
            f"{nearest(name, TEACHERS)}"
        )
    teacher = TEACHERS[name]
    if checkpoint is False:
        return teacher.build()
    sha256 = (sha256 or teacher.sha256 or "").lower() or None
    file = _file(teacher, checkpoint, sha256)
    model = teacher.build()
    load_published(model, file)
    return model


def _file(teacher: Teacher, checkpoint: str | bool | None, sha256: str | None) -> Path:
    """Return the checked file of a teacher, downloaded where it isn't there yet."""
    source, path = teacher.url, cached_file(teacher.file)
    if isinstance(checkpoint, str | os.PathLike):
        source = os.fspath(checkpoint)
        path = _named(source)
    elif checkpoint is not None:
        raise CheckpointError(f"checkpoint must be a file, a URL or False; found {checkpoint!r}")
    if path.is_file():
        _check_sha256(path, sha256)
        return path
    name = teacher.published_as or path.name
    by_hand = f"download {name} from {teacher.page} and put it at {path}, or give checkpoint: FILE"
    if source is None:
        raise CheckpointError(f"{path} not found, and its authors give no direct link; {by_hand}")
    try:
        download(source, path, sha256)
    except DownloadError as error:
        raise CheckpointError(f"{error}; {by_hand}") from error
    if sha256 is None:
        logger.warning("%s has sha256 %s; give it as sha256 to pin it", path, sha256_of(path))
    return path


def _named(checkpoint: str) -> Path:
    """Return the file that a recipe names, or that a URL in it will be kept in."""
    if is_url(checkpoint):
        return cached_file(file_name(checkpoint))
    path = Path(checkpoint).expanduser()
    if not path.is_file():
        raise CheckpointError(f"checkpoint not found: {path}")
    return path


def _check_sha256(path: Path, sha256: str | None) -> None:
    if sha256 is not None:
        found = sha256_of(path)
        if not found.startswith(sha256):
            raise CheckpointError(f"{path} has sha256 {found}, not {sha256}; remove or replace it")
