"""Which device to use, and the process group of a run under torchrun."""

import gc
import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar, cast

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.rendezvous import rendezvous
from torchdistill.common.main_util import (
    get_rank,
    is_dist_avail_and_initialized,
    is_main_process,
    setup_for_distributed,
)

from .errors import UserError

T = TypeVar("T")
# An attack's shares, and another study's run, take as long as they take; where one of the processes
# has died, who launched them ends the others.
PATIENCE = timedelta(days=7)


def choose_device(name: str | None = None) -> torch.device:
    """Return the named device, by default CUDA where there is one, else the CPU.

    Raises:
        UserError: if torch doesn't know the device or CUDA is asked for and absent.
    """
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError:
        raise UserError(f"--device: torch knows no {name!r}; try cpu or cuda") from None
    try:
        torch.empty(0, device=device)
    except Exception as error:
        message = f"can't use {name!r}: {str(error).strip().splitlines()[0]}; try cpu"
        raise UserError(f"--device: {message}") from error
    return device


def available_cpus() -> int:
    """Count the cores that this process may use, which can be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def init_process_group(device: torch.device, dist_url: str) -> torch.device:
    """Join the process group that torchrun's environment describes, if there is one.

    The host knows CUDA with NCCL only; on the CPU this uses gloo.

    Returns:
        This process's own device.

    Raises:
        UserError: if the group can't be joined, or this process has no GPU of its own.
    """
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return device
    try:
        rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        if device.type == "cuda":
            device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", rank)))
            torch.cuda.set_device(device)
        backend = "nccl" if device.type == "cuda" else "gloo"
        _join(backend, dist_url, rank, world_size)
    except (RuntimeError, ValueError) as error:
        message = f"can't join the processes: {str(error).strip().splitlines()[0]}"
        raise UserError(f"torchrun: {message}") from error
    setup_for_distributed(rank == 0)
    return device


def _join(backend: str, dist_url: str, rank: int, world_size: int) -> None:
    own: dict[str, Any] = {"rank": rank, "world_size": world_size, "timeout": PATIENCE}
    restart = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    # On several machines torchrun doesn't count restarts alike.
    if restart == "0" or os.environ.get("GROUP_WORLD_SIZE") != "1":
        dist.init_process_group(backend, init_method=dist_url, **own)
        return
    # torchrun keeps one store over its restarts, in which the ended processes' addresses are left:
    # the new ones would wait for them.
    store, *_ = next(rendezvous(dist_url, rank, world_size))
    dist.init_process_group(backend, store=dist.PrefixStore(f"restart {restart}", store), **own)


def leave_process_group() -> None:
    """Leave the process group, if there is one, and wait for its threads."""
    if dist.is_initialized():
        # A training refers to itself, and with it to the group, whose threads would outlive it. One
        # that is just releasing a tensor when Python ends would abort the process.
        gc.collect()
        dist.destroy_process_group()


def seed_of_process(seed: int) -> int:
    """Return this process's own seed: as random for another seed as for another process."""
    # Not seed + rank, which would be what the next seed has in the process before.
    return int(np.random.SeedSequence([seed, get_rank()]).generate_state(1)[0])


def gather(value: Any) -> list[Any]:
    """Collect a picklable value of every process, by rank; its own where there is one process."""
    if not is_dist_avail_and_initialized():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def decided_by_first(decide: Callable[[], T]) -> T:
    """Return what the first process decides, in all of them; its ``UserError`` is raised in all."""
    answer: Any = None
    if is_main_process():
        try:
            answer = decide()
        except UserError as error:
            answer = error
    answer = gather(answer)[0]
    if isinstance(answer, UserError):
        raise answer
    return cast(T, answer)


def share_buffers(model: nn.Module) -> None:
    """Give all processes the first one's buffers, which are those that a checkpoint has.

    Statistics of BatchNorm differ between processes after a step; DDP shares them before the next.
    """
    if is_dist_avail_and_initialized():
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)


def sum_over_processes(*values: float, device: torch.device) -> list[float]:
    """Sum each value over all processes; the values themselves where there is one process."""
    if not is_dist_avail_and_initialized():
        return list(values)
    totals = torch.tensor(values, dtype=torch.float64, device=device)
    dist.all_reduce(totals)
    return totals.tolist()
