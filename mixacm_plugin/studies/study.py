"""Studies: a base recipe and rows of overrides, read from a file."""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import yaml

from ..common.errors import RecipeError, nearest, raise_all
from ..common.validation import Spec, validated
from ..common.values import NUMBER
from ..evaluation.attacks import Attack
from ..reading.composing import compose, yaml_mistakes
from ..reading.library import override_names, recipe_names, study_names
from ..reading.nodes import Problem
from .changes import Change
from .results import name_matches
from .spec import ReferenceSpec, RowSpec, StudySpec, as_list, attack_in

NEEDED = ("base", "seeds", "evaluate", "rows")


@dataclass(frozen=True)
class Measurement:
    """An attack, and on how many test images."""

    attack: Attack
    n: int | None = None

    @property
    def key(self) -> str:
        """Identify the measurement in a run's results."""
        return json.dumps({**self.attack.settings(), "n": self.n}, sort_keys=True)


@dataclass(frozen=True)
class Row:
    """A line of the study's table.

    Args:
        name: of the row.
        base: a recipe's file, or the name of a shipped one.
        changes: override files by name, and key paths with their values, in their order.
        reference: published figures, one for each of the reference's columns.
        measure: the ``student``, which is trained, the moving average of it (``ema``), or the
            recipe's ``teacher``, as it comes.
    """

    name: str
    base: str
    changes: list[Change] = field(default_factory=list)
    reference: list[float] | None = None
    measure: Literal["student", "ema", "teacher"] = "student"


@dataclass(frozen=True)
class Study:
    """A study at one of its scales.

    ``sanity`` is the measurement whose attack is checked. With ``until_epoch`` runs are paused
    after so many epochs, and nothing is measured.
    """

    path: str
    name: str
    title: str
    scale: str | None
    seeds: list[int]
    measurements: list[Measurement]
    rows: list[Row]
    reference: ReferenceSpec | None = None
    plots: list[Any] = field(default_factory=list)
    sanity: Measurement | None = None
    until_epoch: int | None = None

    def error(self, where: str, message: str) -> RecipeError:
        """Return an error that names this study."""
        return RecipeError(self.path, where, message)


def read_study(path: str | os.PathLike[str], scale: str | None = None) -> Study:
    """Read a study file.

    Args:
        path: YAML file, or the name of a shipped study, such as ``studies/components``. It has
            ``base`` (a recipe's file, relative to the study's, or the name of a shipped one),
            ``seeds``, ``evaluate`` (attacks with norm, eps, steps, n, ...), ``rows`` (name and
            ``set``: a mapping of key paths, an override file, or a list of these; optionally
            their own ``base``, ``reference`` figures and ``measure: teacher``) and, optionally,
            ``set`` for all rows, ``reference`` ({label, columns}), ``plots``, ``scales`` and
            ``sanity: True``, which checks the first attack on each student.
        scale: name of one of its ``scales``, which replaces what it names: base, seeds, evaluate,
            plots, reference, the ``set`` of all rows, and rows, all by a list or some by name.

    Raises:
        RecipeError: on every mistake at once, with its key path.
    """
    path = os.fspath(path)
    root = compose(path, "study", study_names())
    error = partial(RecipeError, path)
    if not isinstance(root, yaml.MappingNode):
        raise error("", f"expected a mapping with {', '.join(NEEDED)}")
    raise_all([error(*problem) for problem in yaml_mistakes(root)])
    try:
        content = yaml.SafeLoader("").construct_document(root)
    except yaml.MarkedYAMLError as problem:
        raise error("", f"YAML: {problem.problem}") from problem
    spec = validated(StudySpec, content, error)
    merged = _at_scale(spec, scale, error)
    raise_all([error(*problem) for problem in _mistakes(merged, path)])
    name = Path(path).stem
    measurements = [Measurement(attack_in(m), m.get("n")) for m in merged.evaluate or ()]
    attacks = [m for m in measurements if m.attack.threat is not None]
    if merged.sanity and not attacks:
        raise error("sanity", "needs an attack with a threat model under evaluate")
    return Study(
        path=path,
        name=name,
        title=merged.title or name,
        scale=scale,
        seeds=list(merged.seeds or ()),
        measurements=measurements,
        rows=[_row(merged, row, path) for row in merged.rows or ()],
        reference=merged.reference,
        plots=merged.plots or [{"kind": "bars"}],
        sanity=attacks[0] if merged.sanity else None,
    )


def _at_scale(
    spec: StudySpec, scale: str | None, error: Callable[[str, str], RecipeError]
) -> StudySpec:
    """Put what a scale names in place of the study's own."""
    if scale is None:
        return spec
    scales = spec.scales or {}
    if scale not in scales:
        has = ", ".join(map(str, scales)) or "none"
        raise error("scales", f"no scale {scale!r}; there are: {has}.{nearest(scale, scales)}")
    given = _given(scales[scale])
    rows = given.get("rows")
    if isinstance(rows, Mapping):
        names = [row.name for row in spec.rows or ()]
        for name in rows:
            if name not in names:
                raise error(f"scales.{scale}.rows", f"the study has no row {name!r}")
        given["rows"] = [
            row.model_copy(update=_given(rows[row.name])) if row.name in rows else row
            for row in spec.rows or ()
        ]
    return spec.model_copy(update=given)


def _given(spec: Spec) -> dict[str, Any]:
    return {name: getattr(spec, name) for name in spec.model_fields_set}


def _mistakes(spec: StudySpec, path: str) -> Iterator[Problem]:
    """Yield what is wrong across a study's keys."""
    for key in NEEDED:
        if not getattr(spec, key):
            yield key, f"missing; a study needs {key}"
    seeds, names = spec.seeds or [], [row.name for row in spec.rows or ()]
    for index, seed in enumerate(seeds):
        if seed in seeds[:index]:  # it would be counted twice, as if it were another run
            yield f"seeds.{index}", f"{seed} is given twice"
    yield from _missing_files(spec, path)
    for index, row in enumerate(spec.rows or ()):
        where = f"rows.{index}"
        if row.name in names[:index]:
            yield f"{where}.name", f"{row.name!r} is given twice"
        yield from _missing_files(row, path, f"{where}.")
        yield from _figures(row, spec.reference, f"{where}.reference")


def _missing_files(spec: StudySpec | RowSpec, path: str, where: str = "") -> Iterator[Problem]:
    """Yield the base recipe and the override files, of a study or a row, that aren't there."""
    kinds = {"base": ("recipe", recipe_names()), "set": ("override file", override_names())}
    for key, (kind, names) in kinds.items():
        for name in as_list(getattr(spec, key)):
            if isinstance(name, str) and _file(name, path, names) is None:
                yield f"{where}{key}", _no_file(name, path, kind, names)


def _figures(row: RowSpec, reference: ReferenceSpec | None, where: str) -> Iterator[Problem]:
    figures = row.reference
    if figures is None:
        return
    if reference is None:
        yield where, "the study has no reference: {label, columns} that says what it is of"
        return
    numbers = isinstance(figures, list) and all(map(NUMBER.holds, figures))
    if not numbers or len(figures) != len(reference.columns):
        names = ", ".join(reference.columns)
        yield where, f"expected a number for each of {names}, in a list; found {figures!r}"


def _file(name: str, study: str, shipped: list[str]) -> str | None:
    """Return the path of a file beside a study, or the name of a shipped one, or nothing."""
    beside = Path(study).parent / name
    if beside.is_file():
        return os.path.relpath(beside)
    return name if name in shipped else None


def _no_file(name: str, study: str, kind: str, shipped: list[str]) -> str:
    beside = Path(study).parent / name
    return f"no file {beside} and no shipped {kind} {name!r}.{nearest(name, shipped)}"


def _row(spec: StudySpec, row: RowSpec, path: str) -> Row:
    changes: list[Change] = [
        _file(change, path, override_names()) or change if isinstance(change, str) else change
        for change in (*as_list(spec.set), *as_list(row.set))
    ]
    base = str(row.base or spec.base)
    return Row(
        name=row.name,
        base=_file(base, path, recipe_names()) or base,
        changes=changes,
        reference=row.reference,
        measure=row.measure or "student",
    )


def rows_like(study: Study, patterns: Iterable[str]) -> list[Row]:
    """Rows that match any of the patterns, such as ``KD`` or ``KD*``, in the study's order.

    Raises:
        RecipeError: if a pattern matches none.
    """
    names = [row.name for row in study.rows]
    found: set[str] = set()
    for pattern in patterns:
        matching = [name for name in names if name_matches(name, pattern)]
        if not matching:
            message = f"no row {pattern!r}; there are: {', '.join(names)}.{nearest(pattern, names)}"
            raise study.error("--rows", message)
        found.update(matching)
    return [row for row in study.rows if row.name in found]
