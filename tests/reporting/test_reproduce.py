"""The commands of a study's page: pasted as they are they give the figures on it."""

import json
import re
import shlex
from html import unescape
from pathlib import Path

import pytest

from mixacm_plugin.reporting.report import write_report
from mixacm_plugin.studies.results import write_results
from mixacm_plugin.studies.runner import collect
from mixacm_plugin.studies.runs import resolve
from recipes import run
from studies import WEIGHT, done_here, write_study


@pytest.mark.slow
def test_the_commands_of_each_row_give_its_figures_again():
    Path("more.yaml").write_text("train.num_epochs: 2\n")
    Path("ema.yaml").write_text("ema: {decay: 0.5}\n")
    rows = [
        {"name": "one", "set": ["more.yaml", {WEIGHT: 1.0e-5}]},
        {"name": "average", "set": "ema.yaml", "measure": "ema"},
        {"name": "teacher", "measure": "teacher"},
    ]
    study = write_study(seeds=[0, 1], rows=rows)
    runs = resolve(study, Path("cache"))
    done_here(study, runs)
    results = collect(study, runs, {})
    write_results(results, "results")
    html = write_report("results").read_text(encoding="utf-8")
    found = []
    for line in map(unescape, re.findall("<code>(.*?)</code>", html)):
        command, *arguments = shlex.split(line)
        if command == "torchdistill":
            assert run(command, *arguments) == 0
        else:
            assert run("main", *arguments, "--json", "figures.json") == 0
            found.append(json.loads(Path("figures.json").read_text())[0]["correct"])
    expected = [a.correct for row in results.rows for each in row.runs for a in each.figures()]
    assert len(expected) == 10
    assert found == expected
