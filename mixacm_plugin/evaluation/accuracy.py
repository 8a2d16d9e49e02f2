"""Evaluation: clean accuracy, PGD and AutoAttack, with all that a quoted figure needs."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset
from torchdistill.common.main_util import get_rank, get_world_size

from ..common.distributed import gather
from ..common.images import check_images, count, drawn, every_batch, unpack
from ..common.outputs import LogitsOnly
from ..common.state import preserved_rng
from ..common.values import COUNT, check_kind, of_python, whole_seed
from ..parts.adversarial.threat_model import check_radius
from .attacking import Attacking, in_chunks, most_doubts
from .attacks import Attack
from .logits import check_class_count, check_logits, differ
from .progress import Progress
from .state import StateFile, weights_digest

RANDOMISED = (
    "the model is randomised: two passes over the same images differ, so that a plain attack "
    "overestimates its robustness; try --attack autoattack --version rand"
)

BOUNDED = (
    "the model's answers lie between 0 and 1, as after a softmax or a sigmoid; attacks take "
    "logits, and may be weaker on these: let it return its logits"
)


@dataclass(frozen=True)
class Accuracy:
    """Correct images out of ``n``, with the attack and the seed that gave them.

    Args:
        correct: images that are classified right, also under the attack.
        clean_correct: images that are classified right without it.
        n: images in all.
        attack: with its threat model.
        seed: of the images' choice and of the attack.
        batch_size: of the attack, whose random draws depend on it.
        warnings: what speaks against the figure, a line each.
    """

    correct: int
    clean_correct: int
    n: int
    attack: Attack
    seed: int
    batch_size: int | None = None
    warnings: tuple[str, ...] = ()

    @property
    def value(self) -> float:
        """Accuracy under the attack, as a fraction."""
        return self.correct / self.n

    @property
    def clean(self) -> float:
        """Clean accuracy on the same images, as a fraction."""
        return self.clean_correct / self.n

    def interval(self) -> tuple[float, float]:
        """95 % confidence interval (Wilson) over the choice of test images."""
        from scipy.stats import binomtest  # only here, since it takes a while

        bounds = binomtest(self.correct, self.n).proportion_ci(0.95, method="wilson")
        return float(bounds.low), float(bounds.high)

    def to_json(self) -> dict[str, Any]:
        """Return the figure and its setting as plain values."""
        return {
            **asdict(self),
            "attack": self.attack.settings(),
            "warnings": list(self.warnings),
            "accuracy": self.value,
            "clean_accuracy": self.clean,
            "interval_95": list(self.interval()),
        }


def evaluate(
    model: nn.Module,
    dataset: Dataset[Any],
    attack: Attack,
    *,
    n: int | None = None,
    seed: int = 0,
    batch_size: int = 250,
    num_workers: int = 0,
    device: torch.device | str = "cpu",
    progress: bool | Callable[[str], None] = False,
    state: str | os.PathLike[str] | None = None,
    distributed: bool = False,
) -> Accuracy:
    """Accuracy of a model under an attack, on images of a dataset.

    Only correctly classified images are attacked, so robust accuracy can't exceed clean accuracy.
    On every batch it is checked that the perturbation is in the ball and the image in [0, 1]. An
    image whose logits stop being finite under the attack isn't robust.

    Args:
        model: takes ``(N, C, H, W)`` in [0, 1]; put into eval mode. Its output is what
            ``logits_of`` knows.
        dataset: yields ``(image, label)``, images in [0, 1].
        attack: with its threat model.
        n: number of images, drawn with ``seed``, the same for every model; by default all.
        seed: of the choice of images and of the attack.
        batch_size: images attacked at a time; batches refill as images fall.
        num_workers: processes that load images.
        device: where to run.
        progress: tell on the standard error how far it is, or in few words a function.
        state: file that keeps what is found after every batch; one that is there is gone on from.
        distributed: share the images with the other processes of the group, each of which gets
            the figure of all.

    Raises:
        ValueError: if an image isn't in [0, 1], there are fewer than ``n``, or another argument
            is none.
        UnsuitedModelError: if the model's logits aren't finite, or are of other classes than the
            dataset's.
        TypeError: if the model returns no logits.
        RuntimeError: if the attack leaves the ball or [0, 1].
        UserError: if the state is of another evaluation, or can't be written.
    """
    if not isinstance(attack, Attack):
        raise ValueError(f"attack must be an attack such as PGD(); found {attack!r}")
    seed = whole_seed(seed)
    check_kind("batch_size", batch_size, COUNT)
    batch_size = of_python(batch_size)
    chosen = drawn(dataset, n, seed)
    rank, processes = (get_rank(), get_world_size()) if distributed else (0, 1)
    own = Subset(chosen, range(rank, count(chosen), processes))
    loader = DataLoader(own, batch_size=batch_size, num_workers=num_workers)
    model = LogitsOnly(model).to(device).eval()
    kept = None
    if state is not None:
        of = {
            "attack": attack.settings(),
            "choice of images": [count(chosen), seed],
            "batch size": batch_size,
            "number of processes": processes,
            "model": weights_digest(model),
        }
        kept = StateFile(f"{state}.{rank}" if rank else state, of)
    told = Progress(attack.short, attack.suite(), count(own), progress)
    attacking = Attacking(
        model,
        attack,
        seed=seed,
        batch_size=batch_size,
        device=torch.device(device),
        progress=told,
        state=kept,
    )
    warnings: list[str] = []
    clean_correct = 0
    watching = model.register_forward_hook(told.watch)
    with preserved_rng():
        torch.manual_seed(seed)
        try:
            for images, labels in in_chunks(_right_images(attacking, loader, warnings)):
                clean_correct += len(images)
                attacking.attack_chunk(images, labels)
        finally:
            watching.remove()
            told.close()
    return _over_processes(attacking, clean_correct, warnings, count(chosen), distributed)


def _right_images(
    attacking: Attacking, loader: DataLoader[Any], warnings: list[str]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield, of each batch, images that are classified right, and labels, on the CPU."""
    model, progress = attacking.model, attacking.progress
    for number, batch in enumerate(every_batch(loader)):
        images, labels, _ = unpack(batch, attacking.device)
        check_images(images)
        norm, eps = attacking.attack.ball
        check_radius(images, eps=eps, norm=norm)
        with torch.no_grad():
            logits = model(images)
            averaged = getattr(attacking.attack, "version", None) == "rand"  # over its draws
            if number == 0 and not averaged and differ(logits, model(images)):
                warnings.append(RANDOMISED)
        if number == 0 and attacking.attack.threat and (logits.clamp(0, 1) == logits).all():
            warnings.append(BOUNDED)
        check_logits(logits, labels)
        check_class_count(logits.shape[1], loader.dataset)
        right = logits.argmax(1) == labels
        progress.loaded += len(images)
        progress.tell()
        yield images[right].cpu(), labels[right].cpu()


def _over_processes(
    attacking: Attacking, clean_correct: int, warnings: list[str], n: int, distributed: bool
) -> Accuracy:
    """Put together what the processes found."""
    attack, place = attacking.attack, attacking.place
    own = (clean_correct, place.standing_after, most_doubts(place.doubts), warnings)
    found = gather(own) if distributed else [own]
    clean = sum(correct for correct, *_ in found)
    standing = [sum(counts) for counts in zip(*(after for _, after, *_ in found), strict=True)]
    doubts: Counter[str] = Counter()
    for _, _, shown, _ in found:
        doubts.update(shown)
    told = dict.fromkeys(warning for *_, own in found for warning in own)
    lines = [
        *attack.warnings(),
        *told,
        *attack.verdict(standing, n),
        *(f"{doubt} ({shown} of {clean} images)" for doubt, shown in doubts.items() if shown),
    ]
    return Accuracy(
        standing[-1], clean, n, attack, attacking.seed, attacking.batch_size, tuple(lines)
    )
