"""An attack on many images: by parts and batches, checked, counted, and gone on with later."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..common.images import check_images
from ..common.state import rng_state, set_rng_state
from ..parts.adversarial.threat_model import perturbation_size
from .attacks import Attack
from .progress import Progress
from .state import StateFile

CHUNK = 2**30  # bytes of images that are held and attacked together


@dataclass
class Place:
    """How far an attack is, and what it has found.

    Args:
        standing_after: images that stand after each part of the suite, of all chunks together.
        doubts: what speaks against the figure, with the number of images that show it; by part.
        chunks: digests of the chunks begun.
        part: of the suite, at which the last chunk is.
        done: images of the last chunk that this part has been at.
        standing: which of the last chunk's stand; ``None`` if it is finished.
    """

    standing_after: list[int]
    doubts: list[dict[str, int]]
    chunks: list[str] = field(default_factory=list)
    part: int = 0
    done: int = 0
    standing: Tensor | None = None


class Attacking:
    """Attacks chunks of images; within one, batches refill as images fall.

    Args:
        model: gives logits.
        attack: whose parts follow each other.
        seed: of the attack's own generators.
        batch_size: images attacked at once.
        device: where to attack.
        progress: that is told of parts and batches.
        state: file that keeps the place after every batch, and may have one to go on from.
    """

    def __init__(
        self,
        model: nn.Module,
        attack: Attack,
        *,
        seed: int,
        batch_size: int,
        device: torch.device,
        progress: Progress,
        state: StateFile | None = None,
    ) -> None:
        self.model, self.attack, self.seed, self.batch_size = model, attack, seed, batch_size
        self.device, self.progress, self.state = device, progress, state
        self.suite = progress.suite
        self.begun = 0  # chunks, by this process
        self.rng: dict[str, Any] | None = None
        # After each finished chunk: a randomised model also draws while the next one is loaded.
        self.rng_after: list[dict[str, Any]] = []
        self.place = Place([0 for _ in self.suite], [{} for _ in self.suite])
        if state is not None and state.content:
            self.place = Place(**state.content["place"])
            self.rng_after = state.content["rng_after"]
            self.rng = None if self.place.standing is None else state.content["rng"]

    def attack_chunk(self, images: Tensor, labels: Tensor) -> None:
        """Attack images that the model classifies correctly, unless that is done.

        Raises:
            RuntimeError: if the attack leaves the ball or [0, 1].
            UserError: if the state that is gone on from is of other images.
        """
        place, number = self.place, self.begun
        self.begun += 1
        if self.state is not None:
            digest = hashlib.sha256(images.numpy().tobytes() + labels.numpy().tobytes()).hexdigest()
            if number < len(place.chunks):
                self.state.expect("images", place.chunks[number], digest)
                if number < len(self.rng_after):
                    set_rng_state(self.rng_after[number])
                    return
            else:
                place.chunks.append(digest)
        if self.rng is not None:  # where the state's process was, within this chunk
            set_rng_state(self.rng)
            self.rng = None
        if place.standing is None:
            place.standing = torch.ones(len(images), dtype=torch.bool)
        for part in range(place.part, len(self.suite)):
            place.part = part
            self._attack_part(part, images, labels, place.standing)
            place.standing_after[part] += int(place.standing.sum())
            place.done = 0
        place.part, place.standing = 0, None
        self.rng_after.append(rng_state())
        self._save()

    def _attack_part(self, number: int, images: Tensor, labels: Tensor, standing: Tensor) -> None:
        place, part = self.place, self.suite[number]
        left = standing.nonzero()[:, 0]
        left = left[left >= place.done]
        self.progress.begin_part(number, len(left))
        for first in range(0, len(left), self.batch_size):
            chosen = left[first : first + self.batch_size]
            self.progress.begin_batch(first, len(chosen))
            own, targets = images[chosen].to(self.device), labels[chosen].to(self.device)
            attacked = part.perturb(self.model, own, targets, self.seed)
            check_adversarial(attacked.images, own, self.attack)
            standing[chosen] = attacked.standing.cpu()
            for doubt, count in attacked.doubts.items():
                place.doubts[number][doubt] = place.doubts[number].get(doubt, 0) + count
            self.progress.standing = int(standing.sum())
            place.done = int(chosen[-1]) + 1
            self._save()

    def _save(self) -> None:
        if self.state is not None:
            found = {"place": asdict(self.place), "rng": rng_state(), "rng_after": self.rng_after}
            self.state.save(found)


def in_chunks(batches: Iterator[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    """Put batches together into chunks of at least ``CHUNK`` bytes, but for the last."""
    chunk: list[tuple[Tensor, Tensor]] = []
    size = 0
    for images, labels in batches:
        chunk.append((images, labels))
        size += images.nbytes
        if size >= CHUNK:
            yield _together(chunk)
            chunk, size = [], 0
    if chunk:
        yield _together(chunk)


def _together(batches: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    images, labels = zip(*batches, strict=True)
    return torch.cat(images), torch.cat(labels)


def check_adversarial(adversarial: Tensor, images: Tensor, attack: Attack) -> None:
    """Raise ``RuntimeError`` if an attack left its ball or [0, 1].

    Args:
        adversarial: ``(N, C, H, W)``.
        images: what they were.
        attack: that perturbed them.
    """
    try:
        check_images(adversarial)
    except ValueError as error:
        raise RuntimeError(f"{attack.title} left [0, 1]: {error}") from error
    norm, eps = attack.ball
    largest = perturbation_size(adversarial - images.clamp(0, 1), norm).max()
    if largest > eps * (1 + 1e-5) + 1e-6:  # rounding
        raise RuntimeError(f"{attack.title} left its ball: {norm} {largest:.6f} > {eps:.6f}")


def most_doubts(parts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """Return each doubt with the number of images that show it in the part where most do."""
    found: dict[str, int] = {}
    for doubts in parts:
        for doubt, count in doubts.items():
            found[doubt] = max(count, found.get(doubt, 0))
    return found
