"""Several processes of a test, as torchrun would start them."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.multiprocessing as mp

PROCESSES = 2


def run_processes(worker: Callable[[int, str], None], folder: Path) -> None:
    """Run ``worker(rank, folder)`` in ``PROCESSES`` processes; fail if they wait for each other."""
    context = mp.spawn(_start, (worker, str(folder)), PROCESSES, join=False)
    try:
        deadline = time.monotonic() + 300
        while not context.join(timeout=1):
            assert time.monotonic() < deadline, "the processes wait for each other"
    finally:
        for child in context.processes:
            child.kill()


def _start(rank: int, worker: Callable[[int, str], None], folder: str) -> None:
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(PROCESSES))
    worker(rank, folder)


def wait_until(condition: Callable[[], object], seconds: float = 300) -> None:
    """Wait for a condition; fail if it doesn't come to hold."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)
