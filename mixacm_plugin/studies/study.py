"""Studies: a base recipe and rows of overrides, read from a file."""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from ..attacks import Attack
from ..library import how_to_use, override_names, recipe_file, recipe_names, study_names
from ..plots.kinds import name_matches
from ..plots.study import check_plots
from ..recipe import RecipeError, check_nodes, nearest
from ..value_kinds import COUNT, KINDS, NATURAL, NUMBER

STUDY_KEYS = (
    "title",
    "base",
    "seeds",
    "evaluate",
    "set",
    "rows",
    "reference",
    "scales",
    "plots",
)
SCALE_KEYS = ("base", "seeds", "evaluate", "set", "rows", "plots", "reference")
ROW_KEYS = ("name", "base", "set", "reference")


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
    """A line of the study's table."""

    name: str
    base: str
    changes: list[str | dict[str, Any]] = field(default_factory=list)
    reference: list[float] | None = None

    @property
    def overrides(self) -> dict[str, Any]:
        """Key paths and their values, without those in override files."""
        return _last_of_each(change for change in self.changes if isinstance(change, dict))

    @property
    def override_files(self) -> list[str]:
        """Names of override files."""
        return [change for change in self.changes if isinstance(change, str)]

    @property
    def sets(self) -> list[str]:
        """What ``--set`` takes, in order."""
        texts = ({c: c} if isinstance(c, str) else _texts(c) for c in self.changes)
        return list(_last_of_each(texts).values())


@dataclass(frozen=True)
class Study:
    """A study at one of its scales."""

    path: str
    name: str
    title: str
    scale: str | None
    seeds: list[int]
    measurements: list[Measurement]
    rows: list[Row]
    reference: dict[str, Any] | None = None
    plots: list[dict[str, Any]] = field(default_factory=list)


def read_study(path: str | os.PathLike[str], scale: str | None = None) -> Study:
    """Read a study file.

    Args:
        path: YAML file, or the name of a shipped study, such as ``studies/components``. It has
            ``base`` (a recipe's file, relative to the study's, or the name of a shipped one),
            ``seeds``, ``evaluate`` (attacks with norm, eps, steps, n, ...), ``rows`` (name and
            ``set``: a mapping of key paths, an override file, or a list of these; optionally
            their own ``base`` and ``reference`` figures) and, optionally, ``set`` for all rows,
            ``reference`` ({label, columns}), ``plots`` and ``scales``.
        scale: name of one of its ``scales``, which replaces what it names: base, seeds, evaluate,
            plots, reference, the ``set`` of all rows, and rows, all by a list or some by name.

    Raises:
        RecipeError: on anything malformed, with the key path.
    """
    path = os.fspath(path)

    def error(where: str, message: str) -> RecipeError:
        return RecipeError(path, where, message)

    try:
        file = path if os.path.exists(path) or path not in study_names() else recipe_file(path)
        text = Path(file).read_text(encoding="utf-8")
        content, root = yaml.safe_load(text), yaml.compose(text, Loader=yaml.SafeLoader)
    except OSError as problem:
        hint = how_to_use(path) or nearest(path, study_names())
        raise error("", f"can't read the study: {problem.strerror}.{hint}") from problem
    except (yaml.YAMLError, UnicodeDecodeError) as problem:
        raise error("", f"YAML syntax: {problem}") from problem
    _check_keys(content, STUDY_KEYS, "", error)
    check_nodes(root, error)
    scaled: Mapping[str, Any] = {}
    if scale is not None:
        scales = content.get("scales") or {}
        if not isinstance(scales, Mapping):
            raise error("scales", f"expected a mapping; found {scales!r}")
        if scale not in scales:
            has = ", ".join(map(str, scales)) or "none"
            raise error("scales", f"no scale {scale!r}; there are: {has}.{nearest(scale, scales)}")
        scaled = scales[scale]
        _check_keys(scaled, SCALE_KEYS, f"scales.{scale}", error)
    by_row = scaled.get("rows") or {}
    merged = {**content, **scaled}
    if isinstance(by_row, Mapping):
        merged["rows"] = content.get("rows")
    else:
        by_row = {}
    for key in ("base", "seeds", "evaluate", "rows"):
        if not merged.get(key):
            raise error(key, f"missing; a study needs {key}")
        if key != "base" and not isinstance(merged[key], list):
            raise error(key, f"expected a list; found {merged[key]!r}")
    for index, seed in enumerate(merged["seeds"]):
        if not KINDS[NATURAL](seed):
            raise error(f"seeds.{index}", f"expected a whole number; found {seed!r}")
        if seed in merged["seeds"][:index]:  # it would be counted twice, as if it were another run
            raise error(f"seeds.{index}", f"{seed} is given twice")
    title, reference = merged.get("title"), merged.get("reference")
    if title is not None and not isinstance(title, str):
        raise error("title", f"expected text; found {title!r}")
    _check_reference(reference, error)
    for index, row in enumerate(merged["rows"]):
        _check_keys(row, ROW_KEYS, f"rows.{index}", error)
        if not isinstance(row.get("name"), str):
            raise error(f"rows.{index}.name", f"expected a name; found {row.get('name')!r}")
    for name, row in by_row.items():
        _check_keys(row, ROW_KEYS, f"scales.{scale}.rows.{name}", error)
    unknown = [name for name in by_row if name not in [row["name"] for row in merged["rows"]]]
    if unknown:
        raise error(f"scales.{scale}.rows", f"the study has no row {unknown[0]!r}")
    rows = []
    for index, row in enumerate(merged["rows"]):
        if row["name"] in [r.name for r in rows]:
            raise error(f"rows.{index}.name", f"{row['name']!r} is given twice")
        row = {**row, **(by_row.get(row["name"]) or {})}
        where = f"rows.{index}.base"
        base = _file(row.get("base") or merged["base"], path, "recipe", where, error)
        changes = [
            *_changes(merged.get("set"), path, "set", error),
            *_changes(row.get("set"), path, f"rows.{index}.set", error),
        ]
        _check_figures(row.get("reference"), reference, f"rows.{index}.reference", error)
        rows.append(Row(row["name"], base, changes, row.get("reference")))
    measurements = []
    for index, spec in enumerate(merged["evaluate"]):
        try:
            spec = dict(spec)
            n = spec.pop("n", None)
            if n is not None and not KINDS[COUNT](n):
                raise ValueError(f"n must be {COUNT}; found {n!r}")
            measurements.append(Measurement(Attack(spec.pop("attack"), **spec), n))
        except (KeyError, TypeError, ValueError) as problem:
            raise error(f"evaluate.{index}", f"{type(problem).__name__}: {problem}") from problem
    plots = merged.get("plots") or [{"kind": "bars"}]
    try:
        check_plots(plots, [row.name for row in rows])
    except ValueError as problem:
        raise error("plots", str(problem)) from problem
    return Study(
        path=path,
        name=Path(path).stem,
        title=title or Path(path).stem,
        scale=scale,
        seeds=list(merged["seeds"]),
        measurements=measurements,
        rows=rows,
        reference=reference,
        plots=plots,
    )


def _check_keys(part: Any, known: tuple[str, ...], where: str, error: Any) -> None:
    if not isinstance(part, Mapping):
        raise error(where, f"expected a mapping; found {part!r}")
    for key in part:
        if key not in known:
            hint = nearest(key, known)
            place = f"{where}.{key}".lstrip(".")
            raise error(place, f"unknown key; expected {', '.join(known)}.{hint}")


def _check_reference(reference: Any, error: Any) -> None:
    if reference is None:
        return
    columns = reference.get("columns") if isinstance(reference, Mapping) else None
    if (
        set(reference if isinstance(reference, Mapping) else ()) != {"label", "columns"}
        or not isinstance(reference["label"], str)
        or not isinstance(columns, list)
        or not all(isinstance(column, str) for column in columns)
    ):
        raise error("reference", f"expected {{label: text, columns: [names]}}; found {reference!r}")


def _check_figures(figures: Any, reference: Any, where: str, error: Any) -> None:
    if figures is None:
        return
    if reference is None:
        raise error(where, "the study has no reference: {label, columns} that says what it is of")
    columns = reference["columns"]
    if (
        not isinstance(figures, list)
        or len(figures) != len(columns)
        or not all(map(KINDS[NUMBER], figures))
    ):
        names = ", ".join(columns)
        raise error(where, f"expected a number for each of {names}, in a list; found {figures!r}")


def _file(name: Any, study: str, kind: str, where: str, error: Any) -> str:
    if not isinstance(name, str):
        raise error(where, f"expected the name of a file; found {name!r}")
    beside = Path(study).parent / name
    if beside.is_file():
        return os.path.relpath(beside)
    shipped = recipe_names() if kind == "recipe" else override_names()
    if name not in shipped:
        hint = nearest(name, shipped)
        raise error(where, f"no file {beside} and no shipped {kind} {name!r}.{hint}")
    return name


def _changes(spec: Any, study: str, where: str, error: Any) -> list[str | dict[str, Any]]:
    parts = spec if isinstance(spec, list) else [] if spec is None else [spec]
    for part in parts:
        if not isinstance(part, str | dict):
            raise error(
                where, f"expected key paths and values, or an override file; found {part!r}"
            )
    return [
        _file(part, study, "override file", where, error) if isinstance(part, str) else part
        for part in parts
    ]


def _last_of_each(changes: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Merge changes: of a key the last value counts, at its own place."""
    merged: dict[str, Any] = {}
    for change in changes:
        for key, value in change.items():
            merged.pop(key, None)
            merged[key] = value
    return merged


def _texts(overrides: Mapping[str, Any]) -> dict[str, str]:
    def flow(value: Any) -> str:
        return yaml.safe_dump(value, default_flow_style=True, width=10**6).split("\n...")[0].strip()

    return {key: f"{key}={flow(value)}" for key, value in overrides.items()}


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
            raise RecipeError(study.path, "--rows", message)
        found.update(matching)
    return [row for row in study.rows if row.name in found]


def with_seeds(study: Study, seeds: list[int]) -> Study:
    """Return the study with other seeds."""
    return replace(study, seeds=seeds)
