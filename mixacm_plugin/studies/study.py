"""Studies: a base recipe and rows of overrides, resolved into runs that can be cached."""

import hashlib
import json
import os
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from .. import checks
from ..evaluation import Attack
from ..library import recipe_file, recipe_names, study_names
from ..plots.study import check_plots
from ..recipe import Recipe, RecipeError, nearest, read_recipe, walk

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
        return json.dumps({**asdict(self.attack), "n": self.n}, sort_keys=True)


@dataclass(frozen=True)
class Row:
    """A line of the study's table."""

    name: str
    base: str
    overrides: dict[str, Any]
    reference: list[float] | None = None


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


@dataclass(frozen=True)
class Run:
    """A row and a seed: its resolved recipe and the folder that caches its results."""

    row: Row
    seed: int
    recipe: Recipe
    key: str
    folder: Path
    overrides: list[str]

    @property
    def command(self) -> str:
        """The command that trains the same student."""
        sets = [part for override in self.overrides for part in ("--set", override)]
        return shlex.join(
            ["torchdistill", "--config", self.recipe.path, *sets, "--seed", str(self.seed)]
        )

    @property
    def result(self) -> dict[str, Any]:
        """What has been measured so far; empty before the training is finished."""
        file = self.folder / "result.json"
        return json.loads(file.read_text()) if file.exists() else {}


def read_study(path: str | os.PathLike[str], scale: str | None = None) -> Study:
    """Read a study file.

    Args:
        path: YAML file, or the name of a shipped study, such as ``studies/components``. It has
            ``base`` (a recipe's file, relative to the study's, or the name of a shipped one),
            ``seeds``, ``evaluate`` (attacks with norm, eps, steps, n, ...), ``rows`` (name and
            ``set``, optionally their own ``base`` and ``reference`` figures) and, optionally,
            ``set`` for all rows, ``reference`` ({label, columns}), ``plots`` and ``scales``.
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
        content = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except OSError as problem:
        hint = nearest(path, study_names())
        raise error("", f"can't read the study: {problem.strerror}.{hint}") from problem
    except yaml.YAMLError as problem:
        raise error("", f"YAML syntax: {problem}") from problem
    _check_keys(content, STUDY_KEYS, "", error)
    changes: Mapping[str, Any] = {}
    if scale is not None:
        scales = content.get("scales") or {}
        if scale not in scales:
            has = ", ".join(scales) or "none"
            raise error("scales", f"no scale {scale!r}; there are: {has}.{nearest(scale, scales)}")
        changes = scales[scale]
        _check_keys(changes, SCALE_KEYS, f"scales.{scale}", error)
    by_row = changes.get("rows") or {}
    merged = {**content, **changes}
    if isinstance(by_row, Mapping):
        merged["rows"] = content.get("rows")
    else:
        by_row = {}
    for key in ("base", "seeds", "evaluate", "rows"):
        if not merged.get(key):
            raise error(key, f"missing; a study needs {key}")
    unknown = set(by_row) - {row.get("name") for row in merged["rows"]}
    if unknown:
        raise error(f"scales.{scale}.rows", f"the study has no row {sorted(unknown)[0]!r}")
    rows = []
    for index, row in enumerate(merged["rows"]):
        _check_keys(row, ROW_KEYS, f"rows.{index}", error)
        if not isinstance(row.get("name"), str):
            raise error(f"rows.{index}.name", f"expected a name; found {row.get('name')!r}")
        if row["name"] in [r.name for r in rows]:
            raise error(f"rows.{index}.name", f"{row['name']!r} is given twice")
        row = {**row, **(by_row.get(row["name"]) or {})}
        base = _base_file(row.get("base") or merged["base"], path, f"rows.{index}.base", error)
        overrides = {**(merged.get("set") or {}), **(row.get("set") or {})}
        rows.append(Row(row["name"], base, overrides, row.get("reference")))
    measurements = []
    for index, spec in enumerate(merged["evaluate"]):
        try:
            spec = dict(spec)
            n = spec.pop("n", None)
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
        title=merged.get("title") or Path(path).stem,
        scale=scale,
        seeds=list(merged["seeds"]),
        measurements=measurements,
        rows=rows,
        reference=merged.get("reference"),
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


def _base_file(base: str, study: str, where: str, error: Any) -> str:
    beside = Path(study).parent / base
    if beside.is_file():
        return os.path.relpath(beside)
    if base not in recipe_names():
        hint = nearest(base, recipe_names())
        raise error(where, f"no file {beside} and no shipped recipe {base!r}.{hint}")
    return base


def resolve(study: Study, cache: Path, overrides: list[str] | None = None) -> list[Run]:
    """Resolve every row and seed into a run.

    A run's key is a hash of the resolved recipe, its seed, the files it names and the package's
    version: equal runs share their folder, within a study and between studies.

    Args:
        study: from ``read_study``.
        cache: folder that holds the runs' folders.
        overrides: ``key.path=value`` each, for all rows, after the study's own.

    Raises:
        RecipeError: if a row's recipe can't be read or an override doesn't fit it.
    """
    runs = []
    for row in study.rows:
        sets = [f"{key}={_yaml(value)}" for key, value in row.overrides.items()]
        sets += overrides or []
        try:
            models = read_recipe(row.base, sets).build("models")
        except RecipeError as problem:
            raise RecipeError(study.path, f"row {row.name!r}", str(problem)) from problem
        student = checks.model_sections({"models": models})["student"]
        neutral = read_recipe(row.base, [*sets, f"{student}.dst_ckpt=student.pt"])
        teacher = (models.get("teacher_model") or {}).get("src_ckpt")
        named = {node.value for _, node in walk(neutral.root) if isinstance(node, yaml.ScalarNode)}
        files = [_file_digest(teacher), *map(_file_digest, sorted(filter(os.path.isfile, named)))]
        for seed in study.seeds:
            key = _digest(neutral.text(), str(seed), *files, version("mixacm-plugin"))
            folder = cache / key
            checkpoint = (folder / "student.pt").as_posix()
            resolved = read_recipe(
                row.base, [*sets, f"{student}.dst_ckpt={json.dumps(checkpoint)}"]
            )
            runs.append(Run(row, seed, resolved, key, folder, sets))
    return runs


def _yaml(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=10**6).split("\n...")[0].strip()


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _file_digest(file: str | None) -> str:
    path = Path(file).expanduser() if isinstance(file, str) else None
    if path is None or not path.is_file():
        return str(file)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def with_seeds(study: Study, seeds: list[int]) -> Study:
    """Return the study with other seeds."""
    return replace(study, seeds=seeds)
