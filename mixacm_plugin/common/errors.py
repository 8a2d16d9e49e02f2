"""What is told to the person who wrote a recipe or a command: one line for each mistake."""

import difflib
import os
import re
import sysconfig
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

# Code of nobody who reads our messages: installed, of Python, of this package, or generated.
_FOREIGN = re.compile(
    r".*[/\\]((site|dist)-packages|torchinductor_[^/\\]*)[/\\]|<"
    f"|{re.escape(sysconfig.get_paths()['stdlib'])}|{re.escape(str(Path(__file__).parents[1]))}"
)

_FRAME = re.compile(r'^  File "(.+)", line (\d+)', re.MULTILINE)  # of a traceback's text


class UserError(Exception):
    """What a person can mend, in one line: a flag, a file, the machine. Exit code 2."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(str(message).split()))

    def lines(self) -> list[str]:
        """Return a line for each mistake."""
        return [str(self)]


class RecipeError(UserError):
    """A recipe, or a study, that can't be run: the file, the key path and what to change."""

    def __init__(self, file: str | os.PathLike[str], where: str, message: str) -> None:
        self.file, self.where = os.fspath(file), where
        self.message = " ".join(str(message).split())
        super().__init__(": ".join(part for part in (self.file, where, self.message) if part))

    def __reduce__(self) -> tuple[Any, ...]:
        # From another process; by default exceptions are made anew from their message alone.
        return type(self), (self.file, self.where, self.message)


class UnknownKeyError(RecipeError):
    """An override of a key path that a recipe doesn't have."""


class RecipeErrors(RecipeError):
    """Several mistakes in one recipe; where one is asked for it is the first."""

    def __init__(self, errors: Sequence[RecipeError]) -> None:
        self.errors = tuple(errors)
        first = self.errors[0]
        super().__init__(first.file, first.where, first.message)

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.errors,)

    def lines(self) -> list[str]:
        """Return a line for each mistake."""
        return [str(error) for error in self.errors]


def raise_all(errors: Sequence[RecipeError]) -> None:
    """Raise what was found: nothing, the one error, or all of them as ``RecipeErrors``."""
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise RecipeErrors(errors)


def reason_of(error: Exception) -> str:
    """Say in a line what an exception of anybody's is, also where a loader's worker raised it."""
    if _raised_by_worker(error):
        return str(error).strip().splitlines()[-1]  # of its traceback
    # One of a value is told in words; another may be no more than a key or an index.
    return str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"


def _raised_by_worker(error: Exception) -> bool:
    return "in DataLoader worker process" in str(error).strip().partition("\n")[0]


def place_of(error: Exception) -> str:
    """Say where in a person's own code an exception came up: `` (FILE:LINE)``, or nothing."""
    frames = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    if _raised_by_worker(error):
        frames += _FRAME.findall(str(error))
    own = [(file, line) for file, line in frames if not _FOREIGN.match(file)]
    return f" ({Path(own[-1][0]).name}:{own[-1][1]})" if own else ""


def nearest(name: str, known: Iterable[str]) -> str:
    """Suggest names close to a misspelt one: a sentence to append, or nothing.

    Example:
        >>> nearest("sgd", ["Adam", "SGD"])
        " Did you mean 'SGD'?"
    """
    spelt: dict[str, list[str]] = {}  # those that differ in capitals alone
    for one in dict.fromkeys(map(str, known)):
        spelt.setdefault(one.casefold(), []).append(one)
    close = difflib.get_close_matches(str(name).casefold(), spelt, n=3, cutoff=0.5)
    matches = [one for fold in close for one in spelt[fold]][:3]
    return f" Did you mean {' or '.join(map(repr, matches))}?" if matches else ""
