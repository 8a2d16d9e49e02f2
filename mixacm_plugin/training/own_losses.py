"""Losses of people's own: what they return, and what of them nobody trains."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from ..parts.acm.loss import ACMLoss
from ..reading.sections import term_path
from .boxes import Box, terms_of


def check_loss(_: nn.Module, args: Any, loss: Any) -> None:
    """Raise ``ValueError`` unless a term returns a tensor of one number; a forward hook."""
    found = f"a {type(loss).__name__}"
    if isinstance(loss, Tensor):
        if loss.numel() == 1:
            return
        found = f"a tensor of shape {tuple(loss.shape)}"
    elif isinstance(loss, float | int):
        found += ", which has no gradient"
    raise ValueError(f"expected a loss, a tensor of one number; found {found}")


def untrained(path: str, name: str) -> str:
    """Warn of a term of the loss of the stage at a key path."""
    return f"{term_path(path, name)}: its gradient is zero at the start, so it trains nothing"


def untrained_parts(path: str, box: Box, trained: set[int]) -> Iterator[str]:
    """Yield a warning for each term with tensors of its own that stay as they are.

    Args:
        path: of the stage.
        box: at the beginning of the stage.
        trained: ids of what the optimiser trains: the host gives it models alone.
    """
    for name, (term, _) in terms_of(box.criterion).items():
        if isinstance(term, ACMLoss):  # whose transforms have to be trained
            continue
        own = [n for n, p in term.named_parameters() if p.requires_grad and id(p) not in trained]
        if own:
            yield (
                f"{term_path(path, name)}: {len(own)} tensors of the loss, e.g. {own[0]!r}, aren't "
                "in the optimiser and stay random; put the module into an "
                "auxiliary_model_wrapper, as FrozenTeacher's modules, or freeze it"
            )
