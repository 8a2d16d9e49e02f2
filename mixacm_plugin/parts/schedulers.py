"""Learning-rate schedules that YAML can't build from torch's own."""

import math
from functools import partial

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torchdistill.optim.registry import register_scheduler


@register_scheduler
def warmup_cosine(
    optimizer: Optimizer, epochs: int, warmup_epochs: int = 0, warmup_lr: float = 0.0
) -> LambdaLR:
    """Linear warm-up from ``warmup_lr`` to the optimiser's rate, then cosine.

    Zero is reached after the last epoch. Steps once an epoch, the host's default.

    Args:
        optimizer: given by the host.
        epochs: length of the whole schedule, more than ``warmup_epochs``.
        warmup_epochs: length of the warm-up; the full rate is reached after it.
        warmup_lr: rate of the first epoch.

    Raises:
        ValueError: if ``warmup_epochs`` isn't in [0, epochs).

    Source: MixACM, supplement A.1 (ImageNet: 0.16 to 0.8 in 5 of 120 epochs; CIFAR: no warm-up).
    """
    if not 0 <= warmup_epochs < epochs:
        raise ValueError(
            f"warmup_cosine: expected 0 <= warmup_epochs < epochs; "
            f"found {warmup_epochs} of {epochs}"
        )

    def factor(epoch: int, start: float) -> float:
        if epoch < warmup_epochs:
            return start + (1 - start) * epoch / warmup_epochs
        progress = (epoch - warmup_epochs) / (epochs - warmup_epochs)
        return 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))

    # A later stage may reuse an optimiser whose rate has already decayed.
    rates = [group.get("initial_lr", group["lr"]) for group in optimizer.param_groups]
    starts = [warmup_lr / rate if rate else 0.0 for rate in rates]
    return LambdaLR(optimizer, [partial(factor, start=start) for start in starts])
