"""Which tests marked ``exhaustive`` run: a part that a seed draws, another for another seed."""

import math
import random
from collections.abc import Iterable

import pytest

SHARE = 16  # one in so many


def drawn(cases: Iterable[tuple[str, str]], seed: str) -> set[str]:
    """Draw from each group a part that a seed decides on, and at least one.

    Args:
        cases: name and group of each.
        seed: any text.

    Returns:
        Names.

    Example:
        >>> cases = [(f"test[{n}]", "test") for n in range(8)] + [("lonely", "lonely")]
        >>> names = drawn(cases, "today")
        >>> len(names), "lonely" in names, drawn(cases, "today") == names
        (2, True, True)
    """
    groups: dict[str, list[str]] = {}
    for name, group in cases:
        groups.setdefault(group, []).append(name)
    return {
        name
        for group, names in groups.items()
        for name in random.Random(f"{seed} {group}").sample(names, math.ceil(len(names) / SHARE))
    }


def group_of(item: pytest.Item) -> str:
    """What an exhaustive test is drawn from: its function, or one value of ``each`` of it."""
    marker = item.get_closest_marker("exhaustive")
    values = [item.callspec.params[name] for name in marker.kwargs.get("each", ())]
    return " ".join([item.nodeid.partition("[")[0], *map(str, values)])


def keep_drawn(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out exhaustive tests that aren't drawn, unless all or a test by name is asked for."""
    if config.option.all or any("::" in argument for argument in config.args):
        return
    exhaustive = [item for item in items if item.get_closest_marker("exhaustive")]
    names = drawn(((i.nodeid, group_of(i)) for i in exhaustive), config.option.draw)
    left_out = [item for item in exhaustive if item.nodeid not in names]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]
