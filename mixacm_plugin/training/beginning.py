"""How a training begins: with generators and processes of its own, and once."""

from ..common.errors import UserError
from .boxes import Box, rng_of, set_rng_of, set_stage_processes, stage_processes


class Beginning:
    """What all trainings of a Python process share, as one of them needs it.

    Args:
        box: at the beginning of a training, or where it is gone on with.
        repeatable: whether the generators are to be as they are now when it begins.
    """

    def __init__(self, box: Box, *, repeatable: bool) -> None:
        self._box = box
        self._processes = stage_processes(box)
        self._rng = rng_of(box) if repeatable else None
        self._begun = False

    def check(self) -> None:
        """Raise ``UserError`` if the training has begun.

        It would go on from where it is with the epochs, the schedule and the files of its start.
        """
        if self._begun:
            raise UserError("this Training has run; make another one, which can resume")

    def begin(self) -> None:
        """Put generators and processes back, whatever was made or trained since."""
        self._begun = True
        set_stage_processes(self._box, self._processes)
        if self._rng is not None:
            set_rng_of(self._box, self._rng)
