"""Where the time of a training step goes, and what it computes."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader
from torch.utils.flop_counter import flop_registry

from ..common.images import unpack
from ..training.boxes import Box, forward_process_names, models_of, terms_of

MOST_TIMED_STEPS = 20


@dataclass(frozen=True)
class StepTimes:
    """Time of some training steps with their data.

    Args:
        images: in all of them.
        seconds: that they took.
        parts: seconds of each part by name; what they leave are backward passes and the optimiser.
    """

    images: int
    seconds: float
    parts: Mapping[str, float]

    @property
    def images_per_second(self) -> float:
        """Speed of the steps, with loading their data."""
        return self.images / self.seconds

    def shares(self) -> dict[str, float]:
        """Return each part's share of the time, which add up to 1."""
        rest = self.seconds - sum(self.parts.values())
        parts = {**self.parts, "backward and optimiser": max(rest, 0.0)}
        return {name: seconds / self.seconds for name, seconds in parts.items()}


def timed_steps(box: Box, device: torch.device, seconds: float) -> StepTimes:
    """Train some more steps, with loading their data, and time their parts.

    Args:
        box: that has made a step, as a warm-up.
        device: to wait for.
        seconds: how long, at least for a step.
    """

    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    roles = sorted(models_of(box), reverse=True)  # the teacher runs first
    parts = dict.fromkeys(("loader", *roles), 0.0)
    terms = {
        f"term {name}" if name in parts else name: term
        for name, (term, _) in terms_of(box.criterion).items()
    }
    parts |= dict.fromkeys(terms, 0.0)
    batches, images, steps, started = _repeated(box.train_data_loader), 0, 0, now()
    with _timed(box, terms, parts, now):
        while True:
            begun = now()
            sample, targets, extra = unpack(next(batches), device)
            parts["loader"] += now() - begun
            box.post_forward_process(loss=box.forward_process(sample, targets, extra))
            images, steps = images + len(sample), steps + 1
            if steps == MOST_TIMED_STEPS or now() - started > seconds:
                return StepTimes(images, now() - started, parts)


def operations(box: Box, batch: tuple[Any, ...]) -> float:
    """Return the floating-point operations of a step's products and convolutions, an image.

    Args:
        box: that has made a step, and makes another.
        batch: images, targets and the host's supplementary dict.
    """
    with _Operations() as counted:
        box.post_forward_process(loss=box.forward_process(*batch))
    return counted.total / len(batch[0])


class _Operations(TorchDispatchMode):
    """Sums what torch's FlopCounterMode does, which an attack's own gradients make fail."""

    total = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        count = flop_registry.get(getattr(func, "_overloadpacket", None))
        if count is not None:
            self.total += count(*args, **(kwargs or {}), out_val=result)
        return result


@contextmanager
def _timed(
    box: Box, terms: Mapping[str, nn.Module], parts: dict[str, float], now: Callable[[], float]
) -> Iterator[None]:
    """Add to parts what forward processes and terms take in the block.

    Models aren't hooked: compiled ones would be compiled anew.
    """
    begun = {}

    def begin(name: str) -> None:
        begun[name] = now()

    def end(name: str) -> None:
        parts[name] += now() - begun[name]

    def timed(role: str, process: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            begin(role)
            output = process(*args, **kwargs)
            end(role)
            return output

        vars(run)["__self__"] = getattr(process, "__self__", process)  # by which it is known
        return run

    with ExitStack() as stack:
        for name in forward_process_names(box):
            role, process = name.removesuffix("_forward_proc"), getattr(box, name)
            stack.callback(setattr, box, name, process)
            setattr(box, name, timed("student" if role == "model" else role, process))
        for name, term in terms.items():
            first = term.register_forward_pre_hook(lambda *_, name=name: begin(name))
            stack.callback(first.remove)
            stack.callback(term.register_forward_hook(lambda *_, name=name: end(name)).remove)
        yield


def _repeated(loader: DataLoader[Any]) -> Iterator[Any]:
    while True:
        yield from loader
