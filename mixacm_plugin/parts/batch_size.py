"""A global batch, shared by the processes of a run and summed over steps where it doesn't fit."""

import os

import torch.distributed as dist
from torchdistill.common.main_util import is_dist_avail_and_initialized

from ..common.values import COUNT, check_kind


def local_batch_size(global_batch: int, at_most: int) -> int:
    """Images that a process loads at once, for a training loader's ``batch_size``.

    Processes × this × ``accumulation_steps`` of the same arguments is ``global_batch``, whatever
    the number of processes. BatchNorm and mixup work on what is loaded at once: statistics and λ
    are of this many images. The learning rate is that of the global batch, so leave out
    ``-adjust_lr``; the loader needs ``drop_last: True``, since a last batch of a few images would
    count as a whole one.

    Args:
        global_batch: images of an optimiser's step, in all processes together.
        at_most: images that a device has memory for.

    Returns:
        The largest divisor of a process's share that is at most ``at_most``.

    Raises:
        ValueError: if the processes can't have equal shares, if half of ``at_most`` or less
            divides a share (BatchNorm and mixup would see few images), or a number isn't positive.

    Example:
        >>> local_batch_size(2048, at_most=100), accumulation_steps(2048, at_most=100)
        (64, 32)
    """
    return _shared("local_batch_size", global_batch, at_most)[0]


def accumulation_steps(global_batch: int, at_most: int) -> int:
    """Batches whose gradients make an optimiser's step, for its ``grad_accum_step``.

    The host divides each loss by it, steps the optimiser every so many batches, and counts on over
    the end of an epoch: gradients that are left there go into the next epoch's first step, those
    that are left at the very end are dropped.

    Args:
        global_batch: see ``local_batch_size``.
        at_most: likewise.

    Raises:
        ValueError: see ``local_batch_size``.
    """
    return _shared("accumulation_steps", global_batch, at_most)[1]


def _shared(caller: str, global_batch: int, at_most: int) -> tuple[int, int]:
    check_kind(f"{caller}: global_batch", global_batch, COUNT)
    check_kind(f"{caller}: at_most", at_most, COUNT)
    processes = _processes()
    if global_batch % processes:
        raise ValueError(
            f"{caller}: {processes} processes can't have equal shares of global_batch "
            f"{global_batch}; use a number of processes that divides it"
        )
    share = global_batch // processes
    most = min(share, at_most)
    local = max(n for n in range(1, most + 1) if share % n == 0)
    if 2 * local <= most:
        raise ValueError(
            f"{caller}: a process's share of {share} images can only be loaded {local} at once, "
            f"not up to {most}; use a global_batch with more divisors"
        )
    return local, share // local


def _processes() -> int:
    if is_dist_avail_and_initialized():
        return dist.get_world_size()
    # As the host does, believe torchrun's environment only where it is whole.
    size = os.environ.get("WORLD_SIZE", "1") if "RANK" in os.environ else "1"
    if not size.isdecimal() or int(size) < 1:
        raise ValueError(f"WORLD_SIZE must be a whole number of at least 1; found {size!r}")
    return int(size)
