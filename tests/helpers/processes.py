"""Several processes of a test, as torchrun would start them."""

import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.multiprocessing as mp

PROCESSES = 2


def run_processes(worker: Callable[[int, str], None], folder: Path) -> None:
    """Run ``worker(rank, folder)`` in ``PROCESSES`` processes; fail if they wait for each other."""
    # Each comes from a process that has imported what takes seconds, and nothing of the tests'.
    multiprocessing.set_forkserver_preload(["mixacm_plugin"])
    started = (worker, str(folder), dict(os.environ))
    context = mp.start_processes(_start, started, PROCESSES, join=False, start_method="forkserver")
    try:
        deadline = time.monotonic() + 300
        while not context.join(timeout=1):
            assert time.monotonic() < deadline, "the processes wait for each other"
    finally:
        for child in context.processes:
            child.kill()


def _start(
    rank: int, worker: Callable[[int, str], None], folder: str, environment: dict[str, str]
) -> None:
    torch.set_num_threads(1)
    os.environ.clear()
    os.environ.update(environment)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(PROCESSES))
    worker(rank, folder)


def wait_until(condition: Callable[[], object], seconds: float = 300) -> None:
    """Wait for a condition; fail if it doesn't come to hold."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)
