"""Plugins of torchdistill: packages that register their parts when they are imported."""

import importlib.metadata


def load_plugins() -> None:
    """Import every installed package under the entry-point group ``torchdistill.plugins``."""
    for plugin in importlib.metadata.entry_points(group="torchdistill.plugins"):
        plugin.load()
