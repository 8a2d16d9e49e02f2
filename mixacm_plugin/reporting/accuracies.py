"""Named accuracies as a table and as a file, with all that a quoted figure needs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ..common.files import write_json
from ..evaluation.accuracy import Accuracy
from ..evaluation.disagreement import Disagreement
from ..evaluation.sanity import SanityLine


def markdown_table(rows: Sequence[tuple[str, Accuracy]]) -> str:
    """Lay out named accuracies as a table that carries all that a quoted figure needs."""
    lines = [
        "| model | attack | norm | ε | n | seed | clean % | accuracy % | 95 % interval |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, accuracy in rows:
        attack, (low, high) = accuracy.attack, accuracy.interval()
        norm, eps = attack.threat or ("–", "–")
        lines.append(
            f"| {name} | {attack.title} | {norm} | {eps} | {accuracy.n} | {accuracy.seed} "
            f"| {100 * accuracy.clean:.1f} | {100 * accuracy.value:.1f} "
            f"| {100 * low:.1f} – {100 * high:.1f} |"
        )
    lines += [
        f"\nwarning: {name}, {accuracy.attack.title}: {warning}"
        for name, accuracy in rows
        for warning in accuracy.warnings
    ]
    return "\n".join(lines)


def disagreement_table(name: str, found: Disagreement) -> str:
    """Lay out a student's disagreement with its teacher as a table."""
    (norm, eps), (low, high) = found.attack.threat, found.interval()
    return "\n".join(
        [
            "| model | sought by | norm | ε | n | seed | on the images | largest in the ball "
            "| 95 % interval |",
            "|---|---|---|---|---|---|---|---|---|",
            f"| {name} | {found.attack.title} | {norm} | {eps} | {found.n} | {found.seed} "
            f"| {found.clean:.3f} | {found.mean:.3f} | {low:.3f} – {high:.3f} |",
        ]
    )


def write_accuracies(
    path: str | Path,
    rows: Sequence[tuple[str, Accuracy]],
    sanity: Sequence[SanityLine] = (),
    measured: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Write named accuracies with their settings to a file.

    Args:
        path: of the file.
        rows: names and accuracies.
        sanity: what was checked of the attack.
        measured: of which recipe, checkpoint and the like the figures are, for each row.
    """
    checked = {"sanity": [line.to_json() for line in sanity]} if sanity else {}
    write_json(path, [{"model": name, **measured, **a.to_json(), **checked} for name, a in rows])
