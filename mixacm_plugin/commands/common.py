"""What several commands share: arguments, tables and the log."""

import argparse
import contextlib
import logging
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from torchdistill.common.constant import LOGGING_FORMAT
from torchdistill.common.main_util import is_main_process
from tqdm import tqdm

from ..common.errors import UserError
from ..common.files import not_written
from ..common.values import SEED, parse_count
from ..parts.computed import PRECISIONS
from ..training.tracking import TRACKERS

RECIPE = "a YAML file, or the name of a shipped recipe"


def argument_type(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """Make an argument type of a function that raises ``ValueError`` with words for a person."""

    def parse(text: str) -> Any:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parse


def natural(text: str) -> int:
    """Argument type of seeds and epochs."""
    if not text.isdecimal() or not SEED.holds(int(text)):
        raise argparse.ArgumentTypeError(f"expected {SEED.words}; found {text!r}")
    return int(text)


def check_seeds(seeds: Sequence[int]) -> None:
    """Raise ``UserError`` if a seed is given twice: its run would be counted as two."""
    for seed in seeds:
        if seeds.count(seed) > 1:
            raise UserError(f"--seeds: {seed} is given twice")


positive = argument_type(parse_count)


def shape(text: str) -> tuple[int, int, int]:
    """Argument type of an image's shape."""
    sizes = text.split(",")
    if len(sizes) != 3 or not all(size.isdecimal() and int(size) for size in sizes):
        raise argparse.ArgumentTypeError(f"expected C,H,W such as 3,32,32; found {text!r}")
    channels, height, width = map(int, sizes)
    return channels, height, width


def add_recipe(parser: argparse.ArgumentParser, *, positional: bool = False) -> None:
    """Add the recipe, by ``--config`` or also without a flag, and its overrides."""
    if positional:
        parser.add_argument("recipe", nargs="?", metavar="RECIPE", help=RECIPE)
    about = "the same" if positional else RECIPE
    parser.add_argument("--config", required=not positional, metavar="RECIPE", help=about)
    add_overrides(
        parser, "override a value of the recipe, or those an override file names; may be repeated"
    )


def add_overrides(parser: argparse.ArgumentParser, help_text: str) -> None:
    """Add overrides of a recipe's values."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY.PATH=VALUE|FILE",
        dest="overrides",
        help=help_text,
    )


def add_blocks(parser: argparse.ArgumentParser) -> None:
    """Add what sets a recipe's blocks ``validate``, ``ema`` and ``compute``."""
    parser.add_argument(
        "--validate",
        action="append",
        type=_validation,
        dest="overrides",
        metavar="ATTACK:EPS:STEPS",
        help="also validate robust accuracy after each epoch, such as pgd:8/255:10; the recipe's "
        "block validate has more settings",
    )
    parser.add_argument(
        "--ema",
        action="append",
        type=lambda text: f"ema.decay={text}",
        dest="overrides",
        metavar="DECAY",
        help="also keep a moving average of the student's weights, such as 0.999",
    )
    parser.add_argument(
        "--precision",
        action="append",
        type=lambda text: f"compute.precision={precision(text)}",
        dest="overrides",
        metavar="{fp32,bf16}",
        help="in which the models run while training",
    )
    parser.add_argument(
        "--channels_last",
        action="append_const",
        const="compute.channels_last=True",
        dest="overrides",
        help="let channels lie last in memory, for convolutions",
    )
    parser.add_argument(
        "--compile",
        action="append_const",
        const="compute.compile=True",
        dest="overrides",
        help="compile the models with torch.compile",
    )


def _validation(text: str) -> str:
    attack, *settings = text.split(":")
    if not attack or len(settings) > 2 or not all(settings):
        raise argparse.ArgumentTypeError(f"expected ATTACK:EPS:STEPS; found {text!r}")
    block = dict(zip(("attack", "eps", "steps"), (attack, *settings), strict=False))
    if "steps" in block:
        positive(block["steps"])
    return f"validate={{{', '.join(f'{key}: {value}' for key, value in block.items())}}}"


def precision(text: str) -> str:
    """Argument type of a precision."""
    if text not in PRECISIONS:
        raise argparse.ArgumentTypeError(f"expected {' or '.join(PRECISIONS)}; found {text!r}")
    return text


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add the choice of a device."""
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ... (default: CUDA if there is one)")


def add_track(parser: argparse.ArgumentParser) -> None:
    """Add the choice of a tracker."""
    parser.add_argument(
        "--track",
        choices=tuple(TRACKERS),
        help="show losses, learning rate and validation accuracies while training",
    )


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lay out rows in columns of equal width."""
    cells = [heads, *rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]


class _LogFile(logging.FileHandler):
    """A log that stops the command where it can't be written; logging's own goes on without."""

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        logging.getLogger().removeHandler(self)
        with contextlib.suppress(OSError):
            self.close()  # or what is left would be tried again at the very end
        if isinstance(error, OSError):
            raise UserError(f"--run_log: {not_written(self.baseFilename, error)}") from error
        super().handleError(record)


class _AboveBars(logging.StreamHandler):
    def emit(self, record: logging.LogRecord) -> None:
        with tqdm.external_write_mode(self.stream):
            super().emit(record)


def set_up_log(run_log: str | None) -> None:
    """Our lines on the terminal; in the log file the host's as well.

    Args:
        run_log: the file, if there is to be one; what is in it stays.

    Raises:
        UserError: if it can't be written.
    """
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    root.handlers.clear()
    terminal = _AboveBars(sys.stdout)
    terminal.setFormatter(logging.Formatter("%(message)s"))
    ours = ("mixacm",) if is_main_process() else ()
    terminal.addFilter(lambda r: r.name in ours or r.levelno >= logging.WARNING)
    root.addHandler(terminal)
    if run_log is not None and is_main_process():
        path = Path(run_log).expanduser()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = _LogFile(path)
        except OSError as error:
            raise UserError(f"--run_log: {error}") from error
        file.setFormatter(logging.Formatter(LOGGING_FORMAT))
        root.addHandler(file)
