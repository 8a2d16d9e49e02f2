"""Attacks, a class each in a file of its own; a new one is a class and a line here."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from ...common.errors import nearest
from .autoattack import AutoAttack
from .base import Attack
from .clean import Clean
from .pgd import PGD
from .square import Square

ATTACKS: dict[str, type[Attack]] = {
    attack.name: attack for attack in (Clean, PGD, AutoAttack, Square)
}

__all__ = ["ATTACKS", "PGD", "Attack", "AutoAttack", "Clean", "Square", "attack_of"]


def attack_of(settings: Mapping[str, Any]) -> Attack:
    """Return an attack by its settings, as ``Attack.settings`` has them: its name is one.

    Raises:
        ValueError: on an unknown name or setting, or a wrong value.

    Example:
        >>> attack_of({"name": "pgd", "eps": "4/255"}).title
        'PGD-20 (step 1/255)'
    """
    name = settings.get("name")
    if name not in list(ATTACKS):  # a list, since it may not be hashable
        raise ValueError(f"attack must be one of {', '.join(ATTACKS)}; found {name!r}")
    kind = ATTACKS[str(name)]
    given = {key: value for key, value in settings.items() if key != "name"}
    known = [field.name for field in fields(kind)]
    for key in given:
        if key not in known:
            has = f"it has {', '.join(known)}" if known else "it has none"
            raise ValueError(f"{name} has no setting {key!r}; {has}.{nearest(key, known)}")
    return kind(**given)
