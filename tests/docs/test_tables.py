"""The guide's tables say what the package has: nothing more, nothing less."""

import ast
import inspect
import math
import re
import subprocess
import sys
from dataclasses import fields
from fractions import Fraction

import pytest
import torch
import yaml
from torchdistill.datasets.registry import DATASET_WRAPPER_DICT

import mixacm_plugin
from documents import CODE, GUIDE, prose, section, table, tables
from mixacm_plugin import Training
from mixacm_plugin.evaluation.attacks import ATTACKS
from mixacm_plugin.parts.acm.channel_maps import MAPPINGS
from mixacm_plugin.parts.acm.transforms import POOLINGS
from mixacm_plugin.parts.adversarial.clean_and_adversarial import AWAY_FROM, STARTS
from mixacm_plugin.parts.models.hooks.families import FAMILIES
from mixacm_plugin.parts.models.teachers import TEACHERS
from mixacm_plugin.reading.library import override_names, recipe_names, study_names
from mixacm_plugin.reporting.plots.study import KINDS
from mixacm_plugin.studies.results import FORMAT
from mixacm_plugin.studies.spec import RowSpec, ScaleSpec, StudySpec
from mixacm_plugin.training.metrics import EpochMetrics
from recipes import CPU, mixacm, recipe

# Prints what importing the package adds to torchdistill's registries, each with its registry.
REGISTERED = """
import importlib
names = "core.interfaces datasets losses models optim".split()
modules = [importlib.import_module(f"torchdistill.{name}.registry") for name in names]
registries = {n: v for m in modules for n, v in vars(m).items() if type(v) is dict and n.isupper()}
import mixacm_plugin
ours = {
    key: registry
    for registry, values in registries.items()
    for key, value in values.items()
    if value.__module__.startswith("mixacm_plugin.")
}
print(ours)
"""
PARTS = [t for t in tables(section(GUIDE, "Registered parts")) if t.heads[0] == "name"]
ROWS = {CODE.findall(row[0])[0]: row[1] for t in PARTS for row in t.rows}
PYTHON = table(GUIDE, "In Python", "for Python").column(0)


@pytest.fixture(scope="module")
def registered():
    made = subprocess.run([sys.executable, "-c", REGISTERED], capture_output=True, check=True)
    return ast.literal_eval(made.stdout.decode().splitlines()[-1])


@pytest.mark.slow
def test_every_part_is_listed_once(registered):
    names = [name.removeprefix("mixacm_plugin.") for t in PARTS for name in t.column(0)]
    assert len(names) == len(set(names))
    assert not set(names) & set(PYTHON)
    assert len(PYTHON) == len(set(PYTHON))
    assert set(names) | set(PYTHON) == set(registered) | set(mixacm_plugin.__all__)


@pytest.mark.slow
def test_parts_without_a_prefix_are_those_that_torchdistill_knows_by_name(registered):
    # It looks up no dataset by name.
    by_name = {name for name, registry in registered.items() if registry != "DATASET_DICT"}
    assert {name for name in ROWS if not name.startswith("mixacm_plugin.")} == by_name
    called = {name.removeprefix("mixacm_plugin.") for name in ROWS} - by_name
    assert called <= set(mixacm_plugin.__all__)


def own_arguments(part):
    """Names and defaults of the arguments that a recipe gives to a part."""
    given = re.findall(r"^ +([\w, ]+): .*given by the host", part.__doc__, re.MULTILINE)
    by_host = {name for names in given for name in names.split(", ")}
    for name, argument in inspect.signature(part).parameters.items():
        if argument.kind is argument.POSITIONAL_OR_KEYWORD and name not in by_host:
            yield name, argument.default


def value_of(text):
    try:
        return float(Fraction(text))
    except ValueError:
        pass
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def same(text, default):
    if isinstance(default, int | float) and not isinstance(default, bool):
        return math.isclose(value_of(text), default)
    return value_of(text) == default


@pytest.mark.parametrize("name", ROWS)
def test_a_parts_arguments_are_listed_with_their_defaults(name):
    cell, name = ROWS[name], name.removeprefix("mixacm_plugin.")
    part = DATASET_WRAPPER_DICT.get(name) or getattr(mixacm_plugin, name)
    registered_process = inspect.isfunction(part) and "**" in str(inspect.signature(part))
    if cell == "–":
        assert registered_process or not list(own_arguments(part))
        return
    (text,) = CODE.findall(cell)
    listed = [a.partition("=") for a in re.split(r", (?![^(]*\))", text)]
    expected = list(own_arguments(part))
    assert [argument for argument, _, _ in listed] == [argument for argument, _ in expected]
    for (argument, sign, shown), (_, default) in zip(listed, expected, strict=True):
        assert bool(sign) == (default is not inspect.Parameter.empty), argument
        assert not sign or same(shown, default), argument
        described = rf"^ +(\w+, )*{argument}(, \w+)*: "
        assert re.search(described, part.__doc__, re.MULTILINE), f"{argument}: no docstring"


def test_the_values_of_away_from_and_start_are_named():
    text = section(GUIDE, "Teacher and processes")
    (line,) = re.findall(r"^- `away_from` (.*?)(?=^- |\n\n)", text, re.MULTILINE | re.DOTALL)
    attack, _, start = line.partition("`start`")
    assert CODE.findall(attack) == list(AWAY_FROM)
    assert CODE.findall(start) == list(STARTS)


def test_mappings_and_transforms_are_listed():
    assert table(GUIDE, "What the paper leaves open", "mapping").column(0) == list(MAPPINGS)
    transforms = table(GUIDE, "What the paper leaves open", "transform").column(0)
    assert transforms == [*POOLINGS, "affine"]


def test_hook_points_are_those_of_the_families():
    listed = table(GUIDE, "Hook points", "model").rows
    assert len(listed) == len(FAMILIES)
    for (_, cell), points in zip(listed, FAMILIES.values(), strict=True):
        paths = [code for code in CODE.findall(cell) if not code.startswith("mapping")]
        assert paths == [point.path for point in points.activated]
        assert {point.io for point in points.activated} == {cell.split("s of")[0]}


def test_published_teachers_are_listed_with_their_figures():
    listed = {CODE.findall(r[0])[0]: r[2:] for r in table(GUIDE, "Published teachers", "name").rows}
    assert listed == {
        name: (
            f"{t.norm} {t.eps}",
            f"{t.clean:.2f} / {'–' if t.robust is None else f'{t.robust:.2f}'}",
        )
        for name, t in TEACHERS.items()
    }
    models = [row[1] for row in table(GUIDE, "Published teachers", "name").rows]
    assert models == [f"{t.architecture}, {t.dataset}" for t in TEACHERS.values()]


def test_attacks_are_listed_with_their_settings():
    listed = table(GUIDE, "Evaluate", "attack").rows
    assert [CODE.findall(row[0]) for row in listed] == [[name] for name in ATTACKS]
    for (_, settings, python, _), attack in zip(listed, ATTACKS.values(), strict=True):
        expected = [f"{f.name}={f.default}" for f in fields(attack)]
        assert CODE.findall(settings) == ([", ".join(expected)] if expected else [])
        names = ", ".join(f.name for f in fields(attack))
        assert CODE.findall(python) == [f"{attack.__name__}({names})"]


@pytest.mark.parametrize(
    ("head", "spec"),
    [("key of a study", StudySpec), ("key of a row", RowSpec), ("key of a scale", ScaleSpec)],
)
def test_the_keys_of_a_study_are_listed(head, spec):
    assert set(table(GUIDE, "A study's file", head).column(0)) == set(spec.model_fields)


def test_plot_kinds_are_listed_with_their_keys():
    rows = table(GUIDE, "Plots", "plot kind").rows
    listed = {CODE.findall(row[0])[0]: CODE.findall(row[1]) for row in rows}
    assert list(listed) == list(KINDS)
    for kind, keys in listed.items():
        assert set(keys) == set(KINDS[kind].model_fields) - {"kind", "title"}, kind


@pytest.mark.parametrize(
    ("title", "head", "column", "names"),
    [
        ("Shipped recipes", "recipe", 0, recipe_names()),
        ("Other methods", "methods", 1, override_names()),
        ("Shipped studies", "study", 0, study_names()),
    ],
)
def test_what_is_shipped_is_listed_once(title, head, column, names):
    assert sorted(table(GUIDE, title, head).column(column)) == names


def test_files_of_a_run_are_described():
    text = section(GUIDE, "What a run writes")
    (line,) = re.findall(r"A line of `metrics.jsonl` has (.*?)\.\n", text, re.DOTALL)
    assert CODE.findall(line) == [field.name for field in fields(EpochMetrics)]
    training = Training(recipe(mixacm(2, 1, kind="affine"), "train.num_epochs=1"), CPU)
    training.run()
    checkpoint = torch.load(training.last_ckpt, weights_only=False)
    (line,) = re.findall(r"A checkpoint has (.*?)\.\n", text, re.DOTALL)
    assert set(CODE.findall(line)) == set(checkpoint)


def test_the_format_of_results_is_named():
    assert f'`"format": {FORMAT}`' in section(GUIDE, "What a study writes")


def test_what_cant_be_read_as_a_number_is_what_yaml_reads_as_text():
    (text, number) = re.search(
        r"YAML reads `(\S+)` as text.*write `(\S+)`\.", prose(GUIDE)
    ).groups()
    assert isinstance(yaml.safe_load(text), str)
    assert isinstance(yaml.safe_load(number), float)


def test_words_that_have_one_meaning_here_are_explained():
    words = " ".join(row[0] for row in table(GUIDE, "Words", "word").rows)
    for word in (
        *("recipe", "study", "override file", "teacher", "student", "pair", "hook point"),
        *("channel map", "transform", "threat model", "clean accuracy", "robust accuracy"),
    ):
        assert word in words
