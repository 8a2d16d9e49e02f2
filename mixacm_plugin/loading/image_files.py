"""Folders of images that say which file can't be read."""

from collections.abc import Callable
from typing import Any, TypeVar

from torch.utils.data import ConcatDataset
from torchvision.datasets import DatasetFolder

T = TypeVar("T")


class NamingReader:
    """Reads a file as another reader does, which may not say which file it can't read.

    Args:
        read: takes a path.
    """

    def __init__(self, read: Callable[[str], Any]) -> None:
        self.read = read

    def __call__(self, path: str) -> Any:
        """Read the file.

        Raises:
            ValueError: if it can't be read.
        """
        try:
            return self.read(path)
        except Exception as error:  # of any kind: PIL and torchvision have several
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ValueError(
                f"can't read the image {path}: {reason}; replace the file, or remove it"
            ) from error


def name_files(dataset: T) -> T:
    """Let a dataset's folders of images say which file can't be read, in any process.

    Args:
        dataset: of any kind; also a part, a wrapper or a concatenation of such.

    Returns:
        The dataset.
    """
    if isinstance(dataset, DatasetFolder) and not isinstance(dataset.loader, NamingReader):
        dataset.loader = NamingReader(dataset.loader)
    parts = dataset.datasets if isinstance(dataset, ConcatDataset) else []
    for part in (*parts, *(getattr(dataset, name, None) for name in ("dataset", "org_dataset"))):
        if part is not None:
            name_files(part)
    return dataset
