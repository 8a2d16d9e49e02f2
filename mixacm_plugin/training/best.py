"""Which epoch of a run is the best so far, by validation."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass
class Best:
    """The best of a run so far.

    Args:
        clean: highest accuracy on the validation images, as a fraction.
        robust: highest robust accuracy on them, where it is measured.
        score: of the best epoch: robust accuracy, if it is measured, then clean accuracy. Nothing
            before the first epoch; an empty one where robust accuracy is still to come.
        waited: how many epochs were judged since.
    """

    clean: float = 0.0
    robust: float | None = None
    score: list[float] | None = None
    waited: int = 0

    def update(self, clean: float, robust: float | None, *, judged: bool = True) -> bool:
        """Take an epoch's accuracies; return whether it is the best.

        Args:
            clean: on the validation images.
            robust: likewise, where it was measured.
            judged: whether the epoch can be the best one for good; without its robust accuracy it
                is only until another has one.
        """
        first = self.score is None
        self.clean = max(self.clean, clean)
        if robust is not None:
            self.robust = robust if self.robust is None else max(self.robust, robust)
        if not judged:
            self.score = [] if self.score is None else self.score
            return first
        score = [clean] if robust is None else [robust, clean]
        improved = self.score is None or score > self.score
        self.score, self.waited = (score, 0) if improved else (self.score, self.waited + 1)
        return improved

    def state(self) -> dict[str, Any]:
        """Return it as plain values, for a checkpoint."""
        return asdict(self)

    @classmethod
    def from_checkpoint(cls, checkpoint: Mapping[str, Any], *, robust: bool) -> "Best":
        """Return that of a checkpoint, also of one from before there was robust validation.

        Args:
            checkpoint: of a run.
            robust: whether the run goes on with robust validation.
        """
        clean = checkpoint["best_value"] / 100
        score = None if checkpoint["epoch"] < 0 else [clean]
        best = cls(**checkpoint.get("best", {"clean": clean, "score": score}))
        if best.score and len(best.score) != 1 + robust:  # judged by other figures than now
            return cls(best.clean, None, [] if robust else [best.clean])
        return best
