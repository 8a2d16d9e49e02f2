"""Measured figures in the documents are those of the shipped results."""

import json
import re
from statistics import mean, stdev

import pytest

from documents import GUIDE, README, TOP, prose, section, table
from mixacm_plugin import read_recipe
from mixacm_plugin.reporting.markup import markdown
from mixacm_plugin.reporting.summary import summarise
from mixacm_plugin.reporting.tables import lay_out
from mixacm_plugin.studies.changes import sets
from mixacm_plugin.studies.results import read_results
from mixacm_plugin.studies.study import read_study

FOLDERS = sorted((TOP / "recipes/studies/results").iterdir())
RESULTS = {folder.name: summarise(read_results(folder)) for folder in FOLDERS}
BESIDE = {name: "compare" if name.startswith("compare") else "studies" for name in RESULTS}
FIGURE = re.compile(r"\d+\.\d ± \d+\.\d")


def shown(value):
    spread = "" if value.std is None else f" ± {100 * value.std:.1f}"
    return f"{100 * value.mean:.1f}{spread}"


@pytest.mark.parametrize("name", RESULTS)
def test_the_table_of_a_study_is_what_its_results_give(name):
    text = (TOP / "recipes" / BESIDE[name] / "README.md").read_text(encoding="utf-8")
    assert markdown(lay_out(RESULTS[name])).strip() in text


def rows(name):
    return {row.name: row for row in RESULTS[name].rows}


def quickstart():
    """Accuracies in % by model, then by attack, one of each seed; and each attack's n."""
    found, sizes = {}, {}
    results = json.loads((TOP / "recipes/quickstart/results.json").read_text())
    for row in results["rows"]:
        for measured in (figure for run in row["runs"] for figure in run["accuracies"]):
            attack = measured["attack"]["name"]
            own = found.setdefault(row["name"], {}).setdefault(attack, [])
            own.append(100 * measured["accuracy"])
            sizes[attack] = measured["n"]
    return found, sizes


def spread(accuracies, sign=""):
    deviation = f" ± {stdev(accuracies):.1f}" if len(accuracies) > 1 else ""
    return f"{mean(accuracies):{sign}.1f}{deviation}".replace("-", "−")


def test_the_quickstart_in_the_readme_is_what_it_gave():
    found, sizes = quickstart()
    listed = table(README, "Two commands", "model")
    assert listed.rows == [
        (name, *(spread(accuracies) for accuracies in attacks.values()))
        for name, attacks in found.items()
    ]
    assert [head.split()[-1] for head in listed.heads[2:]] == [str(n) for n in sizes.values()][1:]
    text = re.sub(r"\s+", " ", section(README, "Two commands"))
    for title, attack in (("PGD-20", "pgd"), ("AutoAttack", "autoattack"), ("clean", "clean")):
        seeds = zip(found["MixACM"][attack], found["KD + mixup"][attack], strict=True)
        assert f"{title} {spread([one - other for one, other in seeds], '+')}" in text


def attacks_in_training(name):
    """Whether a row of the comparison trains on images of an attack."""
    (row,) = (row for row in read_study("studies/compare").rows if row.name == name)
    return "adversarial_forward" in read_recipe(row.base, sets(row.changes)).text()


def test_the_comparison_in_the_readme_is_what_the_study_gave():
    compared, named = rows("compare"), set()
    *listed, others = table(README, "Compared with other methods", "method").rows
    for method, attacks, accuracies, cost in listed:
        name = method.partition(" (")[0]
        row = compared[name]
        named.add(name)
        assert accuracies == f"{shown(row.values['PGD-20'])} / {shown(row.values['AutoAttack'])}"
        assert cost == f"{row.relative_cost:.2f}"
        assert attacks == ("yes" if attacks_in_training(name) else "no")
    method, attacks, accuracies, cost = others
    assert attacks == "no"
    others = [r for n, r in compared.items() if n.endswith("+ mixup") and n not in named]
    number, means = method.split()[0], {}
    assert number == str(len(others))
    for title in ("PGD-20", "AutoAttack"):
        values = [100 * row.values[title].mean for row in others]
        means[title] = f"{min(values):.1f} to {max(values):.1f}"
    assert accuracies == f"{means['PGD-20']} / {means['AutoAttack']}"
    costs = [row.relative_cost for row in others]
    assert cost == f"{min(costs):.2f} to {max(costs):.2f}"


def test_figures_with_a_spread_are_in_some_results():
    known = {shown(v) for s in RESULTS.values() for row in s.rows for v in row.values.values()}
    text = f"{section(README, 'Compared with other methods')}\n{prose(GUIDE)}"
    found = FIGURE.findall(re.sub(r"\s+", " ", text))
    assert len(found) > 30
    assert set(found) <= known


def test_figures_on_cifar_10_are_in_the_results():
    found = rows("compare-one-machine")
    text = re.sub(r"\s+", " ", section(README, "Compared with other methods"))
    for words, name in (
        ("by MixACM", "MixACM"),
        ("by ARD", "ARD"),
        ("by KD + mixup", "KD + mixup"),
    ):
        assert f"{shown(found[name].values['PGD-20'])} % {words}" in text
    assert f"{shown(found['direct ℓ2 + mixup'].values['PGD-20'])} % by direct ℓ2 + mixup" in text
    assert f"{len(rows('compare'))} rows on digits" in prose(GUIDE)
