"""CONTRIBUTING, the citation, the workflow and the wheel say and hold what the repository has."""

import ast
import re
import subprocess
from fnmatch import fnmatch

import pytest
import yaml

from documents import CODE, CONTRIBUTING, TOP, table
from mixacm_plugin.reading.library import override_names, recipe_names, study_names

tomllib = pytest.importorskip("tomllib")  # since Python 3.11
PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))
PLACES = table(CONTRIBUTING, "Where something goes", "you add").rows


def names_in(file):
    """What a module defines at its top level."""
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.AnnAssign):
            yield node.target.id
        elif isinstance(node, ast.Assign):
            yield from (t.id for t in node.targets if isinstance(t, ast.Name))
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name


@pytest.mark.parametrize(("what", "where", "line"), PLACES)
def test_the_places_where_something_goes_are_there(what, where, line):
    files = [TOP / name for name in CODE.findall(where)]
    assert files
    assert [file for file in files if not file.exists()] == []
    named = CODE.findall(line)
    others = [TOP / name for name in named if "/" in name]
    assert [file for file in others if not file.exists()] == []
    home, names = (others or files)[0], {name for name in named if "/" not in name}
    assert names <= (set(names_in(home)) if home.suffix == ".py" else set())


def test_folders_of_recipes_are_named_where_one_is_added():
    (cell,) = (where for what, where, _ in PLACES if what == "a recipe")
    folders = [name.split("/")[1] for name in CODE.findall(cell)]
    assert sorted(folders) == sorted({name.split("/")[0] for name in recipe_names()})


def test_rooms_are_those_of_the_contract_on_imports():
    listed = [CODE.findall(row[0]) for row in table(CONTRIBUTING, "Rooms", "room").rows]
    layers = PROJECT["tool"]["importlinter"]["contracts"][0]["layers"]
    rooms = [layer.removeprefix("mixacm_plugin.") for layer in layers]
    assert sorted(name for names in listed for name in names) == sorted(rooms)
    assert [names[0] for names in listed] == [room for room in rooms if room != "__main__"]
    package = TOP / "mixacm_plugin"
    there = {path.stem for path in package.iterdir() if path.name[0] not in ".p" or path.is_dir()}
    assert there - {"__init__", "__pycache__", "recipes"} == set(rooms)


def test_the_citation_is_of_this_version_and_names_the_paper():
    citation = yaml.safe_load((TOP / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == PROJECT["project"]["version"]
    assert citation["license"] == PROJECT["project"]["license"]
    paper = citation["preferred-citation"]
    readme = (TOP / "README.md").read_text(encoding="utf-8")
    names = [f"{a['family-names']}, {a['given-names']}" for a in paper["authors"]]
    assert " and ".join(names) in readme
    assert paper["title"] in readme
    assert f"year      = {{{paper['year']}}}" in readme


def test_the_workflow_runs_what_ci_runs_on_each_python():
    workflow = yaml.safe_load((TOP / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    job = workflow["jobs"]["ci"]
    assert [step["run"] for step in job["steps"] if "run" in step] == ["bash .ci/run"]
    lowest = PROJECT["project"]["requires-python"].removeprefix(">=")
    assert job["strategy"]["matrix"]["python"][0] == lowest
    script = (TOP / ".ci/run").read_text(encoding="utf-8")
    for name in job["steps"][-1]["env"]:
        assert f"${{{name}:-" in script  # empty where the matrix has none
    included = {i["versions"]: i for i in job["strategy"]["matrix"]["include"]}
    for package in ("torch", "torchvision"):
        (needed,) = (d for d in PROJECT["project"]["dependencies"] if d.startswith(f"{package}>"))
        assert included["lowest"][package] == f"{needed.partition('>=')[2]}.0"
    subprocess.run(["bash", "-n", TOP / ".ci/run"], check=True)


def test_markers_of_tests_are_explained():
    known = PROJECT["tool"]["pytest"]["ini_options"]["markers"]
    listed = table(CONTRIBUTING, "Tests", "marker").column(0)
    assert listed == [re.match(r"\w+", marker)[0] for marker in known]


def test_hooks_and_templates_are_yaml():
    hooks = yaml.safe_load((TOP / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    (repo,) = hooks["repos"]
    script = (TOP / ".ci/run").read_text(encoding="utf-8")
    for hook in repo["hooks"]:
        assert re.search(rf"^{hook['name']}\b", script, re.MULTILINE)
    forms = sorted((TOP / ".github/ISSUE_TEMPLATE").glob("[!c]*.yml"))
    assert [form.stem for form in forms] == ["bug", "feature"]
    for form in forms:
        assert yaml.safe_load(form.read_text(encoding="utf-8"))["body"]


def test_the_wheel_has_recipes_and_teachers_but_no_results():
    wheel = pytest.importorskip("hatchling.builders.wheel")
    files = {f.distribution_path for f in wheel.WheelBuilder(str(TOP)).recurse_included_files()}
    named = [*recipe_names(), *override_names(), *study_names()]
    assert {f"mixacm_plugin/recipes/{name}.yaml" for name in named} <= files
    teachers = {path.relative_to(TOP).as_posix() for path in TOP.glob("recipes/**/*.pt")}
    assert {f"mixacm_plugin/{name}" for name in teachers} <= files
    assert {"mixacm_plugin/recipes/README.md", "mixacm_plugin/py.typed"} <= files
    results = ("*/results/*", "*.png", "*.svg", "*.json")
    assert [file for file in files if any(fnmatch(file, r) for r in results)] == []
