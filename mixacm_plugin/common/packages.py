"""Packages whose versions belong to a figure."""

from importlib.metadata import version

PACKAGES = ("mixacm-plugin", "torch", "torchvision", "torchdistill", "pyautoattack")


def installed_versions() -> dict[str, str]:
    """Return the version of each that is installed."""
    return {name: version(name) for name in PACKAGES}
