"""How processes end: at Ctrl-C while they are imported, and with the process that started them."""

import os
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType

from .files import is_running

# As pip names them; and "-m" while Python imports the package of a module that it is to run.
COMMANDS = {"mixacm", "torchdistill", "-m"}


def _end(number: int, frame: FrameType | None) -> None:
    os._exit(128 + number)


def end_at_once() -> None:
    """End a command at Ctrl-C with exit code 130, whoever would catch an exception.

    Only where this process is one of the package's commands; a library leaves signals alone, and
    so do we where the signal is ignored, as in a shell's background jobs.
    """
    started = Path(sys.argv[0]).stem if sys.argv else ""
    if started in COMMANDS and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def interrupt_again() -> None:
    """Let Ctrl-C raise ``KeyboardInterrupt`` again."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def end_with_parent(parent: int | None = None) -> None:
    """End this process when the one that started it has ended, however that was.

    Args:
        parent: its number, where it isn't known by our standard input, a pipe that it holds.
    """

    def wait() -> None:
        if parent is None:
            os.read(0, 1)  # nothing is written; it ends with the pipe
            os.kill(os.getpid(), signal.SIGTERM)
            return
        while is_running(parent):
            time.sleep(0.5)
        os._exit(128 + signal.SIGTERM)  # submitit passes over the signal itself

    threading.Thread(target=wait, daemon=True).start()


end_at_once()
