"""What a checkpoint may not do."""

import os


class Code:
    """Pickled, it makes a folder as soon as it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("executed",)
