"""A loss of one's own that fails behind the first steps."""

from torch import Tensor, nn
from torchdistill.losses.registry import register_low_level_loss

LATE = 4  # calls; the step before training has two


@register_low_level_loss
class FailsLate(nn.Module):
    """Cross-entropy that then takes logits of another shape."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Mean over images."""
        self.calls += 1
        if self.calls > LATE:
            logits = logits[:1]
        return nn.functional.cross_entropy(logits, targets)  # fails here
