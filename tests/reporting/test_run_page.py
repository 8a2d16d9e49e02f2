"""The page of a single training run."""

import base64
import re
import shlex
from pathlib import Path

import pytest

from made_up_results import epoch, metrics
from mixacm_plugin.reporting.report import write_report
from recipes import run, write
from runs import trained


def facts(html):
    found = re.findall(r"<dt>(.*?)</dt>\s*<dd>(.*?)</dd>", html)
    return dict(found)


def test_a_run_has_a_page_with_its_course_seed_and_recipe():
    training = trained(seed=3)
    html = write_report("out").read_text(encoding="utf-8")
    assert facts(html)["Seed"] == "3"
    assert re.match(r"\d+ epochs, \d+ s", facts(html)["Trained"])
    assert facts(html)["Files"] == "best_student.pt, student.pt"
    saved = re.search(r'download="recipe.yaml" href="data:text/yaml;base64,(.*?)"', html)[1]
    assert base64.b64decode(saved).decode() == training.recipe.text()
    assert "<script" not in html


def test_the_commands_of_a_runs_page_repeat_it():
    write()
    assert run("torchdistill", "--config", "recipe.yaml", "--seed", "3") == 0
    html = write_report("out").read_text(encoding="utf-8")
    again, measure = re.findall("<code>(.*?)</code>", html)
    assert run(*shlex.split(again)) == 0
    assert run("main", *shlex.split(measure)[1:]) == 0
    first, second = (Path(f, "metrics.jsonl") for f in ("out", "runs/reproduced/out"))
    losses = [re.findall('"loss": (.*?),', file.read_text()) for file in (first, second)]
    assert losses[0] == losses[1]


def test_every_validation_accuracy_has_its_last_and_its_best_epoch():
    lines = [epoch(n, {"robust_val_accuracy": r}, a=1.0) for n, r in enumerate([0.5, 0.25, None])]
    metrics("run", "".join(lines))
    said = facts(write_report("run").read_text(encoding="utf-8"))
    assert said["Robust validation accuracy"] == "25.0 % after epoch 2; best 50.0 % after epoch 1"


@pytest.mark.parametrize(
    ("file", "message"), [(None, "No checkpoint (.pt) lies in run"), ("student.pt", "student.pt")]
)
def test_a_run_without_a_readable_checkpoint_still_has_a_page(file, message):
    metrics("run", epoch(0, a=1.0))
    if file:
        Path("run", file).write_text("damaged")
    html = write_report("run/metrics.jsonl").read_text(encoding="utf-8")
    assert message in html[html.index("Reproduce") :]


def test_names_of_loss_terms_cant_become_markup():
    metrics("run", epoch(0, {"terms": {"<script>": 1.0, "b": 1.0}}, a=1.0))
    html = write_report("run").read_text(encoding="utf-8")
    assert "<script" not in html
    assert "&lt;script&gt;" in html
