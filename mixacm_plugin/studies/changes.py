"""Changes of a base recipe: override files, and key paths with values, as data and as flags."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import yaml

# An override file by its name, a mapping of key paths to values, or a text for --set.
Change: TypeAlias = str | dict[str, Any]


def overrides(changes: Iterable[Change]) -> dict[str, Any]:
    """Key paths and their values, the last of each, without those in override files."""
    return _last_of_each(change for change in changes if isinstance(change, dict))


def override_files(changes: Iterable[Change]) -> list[str]:
    """Names of override files."""
    return [change for change in changes if isinstance(change, str) and "=" not in change]


def sets(changes: Iterable[Change]) -> list[str]:
    """What ``--set`` takes, in order; of a key path that is given twice the last."""
    texts = ({c: c} if isinstance(c, str) else _texts(c) for c in changes)
    return list(_last_of_each(texts).values())


def recipe_arguments(base: str, changes: Iterable[Change]) -> list[str]:
    """Arguments of a command that name a recipe with its changes."""
    flags = [part for text in sets(changes) for part in ("--set", text)]
    return ["--config", base, *flags]


def _last_of_each(changes: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Merge changes: of a key the last value counts, at its own place."""
    merged: dict[str, Any] = {}
    for change in changes:
        for key, value in change.items():
            merged.pop(key, None)
            merged[key] = value
    return merged


def _texts(changed: Mapping[str, Any]) -> dict[str, str]:
    return {key: f"{key}={_flow(value)}" for key, value in changed.items()}


def _flow(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6)
    return text.split("\n...")[0].strip()


def change_of(text: str) -> Change:
    """Return ``KEY.PATH=VALUE`` as a mapping, where YAML's plain values can say it."""
    path, separator, value = text.partition("=")
    if not separator:
        return text
    try:
        return {path: yaml.safe_load(value)}
    except yaml.YAMLError:  # a tag such as !import_call
        return text
