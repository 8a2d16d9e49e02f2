"""How processes end: at Ctrl-C while they are imported, and with the process that started them."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from .files import is_running

# As pip names them; and "-m" while Python imports the package of a module that it is to run.
COMMANDS = {"mixacm", "torchdistill", "-m"}
# What asks to stop. Before it ends a job Slurm sends SIGUSR1, if told to, or submitit's SIGUSR2.
STOPPING = [signal.SIGTERM, signal.SIGINT]
if sys.platform != "win32":
    STOPPING += [signal.SIGUSR1, signal.SIGUSR2]
TELLS_SENDER = hasattr(signal, "sigwaitinfo")  # not on macOS and Windows


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
        parent: its number, where it didn't start this one by ``multiprocessing``.
    """

    def wait() -> None:
        if parent is None:
            starter = multiprocessing.parent_process()
            assert starter is not None
            starter.join()
            os.kill(os.getpid(), signal.SIGTERM)
            return
        while is_running(parent):
            time.sleep(0.5)
        os._exit(128 + signal.SIGTERM)  # submitit passes over the signal itself

    threading.Thread(target=wait, daemon=True).start()


class Stopped(Exception):
    """A signal asked a command to stop, and it has put away what it was at.

    Args:
        number: of the signal.
        message: what is told, in one line; empty where another process does it.
    """

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.number, self.code = number, 128 + number


@contextmanager
def noticed() -> Iterator[Callable[[], int]]:
    """Note a signal that asks to stop, in place of stopping; a second one ends the process at once.

    Yields:
        What returns the number of the signal that came, or 0.
    """
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if came:
            os._exit(128 + number)
        came.append(number)

    before = {number: signal.getsignal(number) for number in STOPPING}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, note)
    try:
        yield lambda: came[0] if came else 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class SparedWorker:
    """Initialise a loader's worker so that what asks its main process to stop doesn't end it.

    Ctrl-C, ``timeout``, systemd and Slurm signal a job's every process. The main one finishes its
    step, for which it needs its workers; they end with it. Picklable, for spawned workers.

    Args:
        then: the loader's own function, called after it.
    """

    def __init__(self, then: Callable[[int], None] | None) -> None:
        self.then = then

    def __call__(self, worker: int) -> None:
        """Do so in the worker of a number."""
        for number in STOPPING:
            if number != signal.SIGTERM:
                signal.signal(number, signal.SIG_IGN)
        main = multiprocessing.parent_process()
        if main is not None and TELLS_SENDER:
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
            threading.Thread(target=_end_if_told, args=(main.pid,), daemon=True).start()
        if self.then is not None:
            self.then(worker)


@contextmanager
def held_back(number: signal.Signals) -> Iterator[None]:
    """Let a signal wait while processes are started, which would end at it before they are ready.

    What is started inherits that, also where it is another program.
    """
    if not TELLS_SENDER:
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [number])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_if_told(main: int) -> None:
    # By SIGTERM a main process ends workers that it has no more use for.
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != main:
        pass
    os._exit(0)


end_at_once()
