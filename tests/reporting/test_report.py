"""The HTML page of a study: what is on it, and how it renders."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from made_up_results import (
    LABEL,
    WEIGHT,
    accuracy,
    done,
    epoch,
    failed,
    metrics,
    results,
    row,
    write,
)
from mixacm_plugin.common.files import recipe_file
from mixacm_plugin.reporting.plots.study import KINDS
from mixacm_plugin.reporting.report import write_report
from recipes import run

VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """Collects text and attributes; fails on tags that don't nest."""

    def __init__(self, html):
        super().__init__()
        self.open, self.text, self.elements = [], [], []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.text.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def report(content=None):
    html = write_report(write(content or results())).read_text(encoding="utf-8")
    return html, Page(html)


def test_every_kind_of_plot_has_its_words():
    plots = [
        {"kind": "bars"},
        {"kind": "curve", "x": WEIGHT},
        {"kind": "size_ratio"},
        {"kind": "depth_width", "depth": WEIGHT, "width": WEIGHT},
        {"kind": "cost", "group": {"all": "*"}},
    ]
    assert {plot["kind"] for plot in plots} == set(KINDS) - {"channel_maps"}  # needs checkpoints
    _, page = report(results(plots=plots))
    words = [image["alt"] for image in page.all("img")]
    assert len(set(words)) == len(plots)


def test_the_page_holds_table_caption_pictures_settings_and_versions():
    _, page = report()
    text = " ".join(page.text)
    for expected in (
        "Components on digits",
        "67.0 ± 1.0",
        LABEL,
        "training seeds 0, 1, 2",
        "PGD-20 (step 0.02): Linf, ε = 0.15, n = 500, seed 0",
        WEIGHT,
        "0123456789abcdef",
        "77,000",
        "torch 2.12.0",
    ):
        assert expected in text
    assert [image["alt"] for image in page.all("img")] == ["Accuracy of each row"]


def test_the_first_screen_says_what_was_compared_and_what_came_out():
    html, _ = report()
    first = html[: html.index("<h2>")]
    lines = [line.strip() for line in Page(first + "</main></body></html>").text if line.strip()]
    assert lines[3:] == [
        *("Compared", "full, no KD, no ACM, diverged"),
        *("Training seeds", "0, 1, 2; 8 of 12 runs finished, 4 failed"),
        *("Threat model", "Linf, ε = 0.15"),
        *("Measured", "clean accuracy on 500 test images, seed 0"),
        "PGD-20 (step 0.02) on 500 test images, seed 0",
        *(
            "Highest",
            "clean: no KD (1 of 3 seeds failed), 98.5 ± 0.7 %; within its error bar: full",
        ),
        "PGD-20: full, 67.0 ± 1.0 %",
    ]


def test_of_a_single_model_the_table_has_its_interval_and_of_seeds_it_says_what_the_spread_is():
    # Wilson, 335 of 500: see test_plots.py
    html, page = report(results([row("a", [done(0, 490, 335)])]))
    assert "<small>62.8 – 71.0</small>" in html
    assert "95 % interval (Wilson) of a single model over test images" in " ".join(page.text)
    html, page = report()
    assert "<small>" not in html
    assert "± is the spread over training seeds, not an interval" in " ".join(page.text)
    assert "67.0 % (62.8 – 71.0)" in page.text  # of every run


def test_training_is_drawn_some_rows_a_picture_and_what_is_missing_is_said():
    rows = [row(f"row {n}", [done(0, 490, 335, checkpoint=f"r/{n}/student.pt")]) for n in range(9)]
    for n in range(8):
        metrics(f"r/{n}", epoch(0, {"robust_val_accuracy": 0.4}, kd=2.0))
    _, page = report(results(rows, plots=[]))
    first = "Training of row 0, row 1, row 2, row 3, row 4, row 5, row 6: a line for each seed"
    second = "Training of row 7: a line for each seed"
    assert [image["alt"] for image in page.all("img")] == [first, second]
    assert "Without row 8, whose runs' metrics.jsonl aren't there." in page.text


def test_a_row_has_its_base_its_override_files_and_the_recipe_that_was_run():
    Path("method.yaml").write_text("train.num_epochs: 3  # as few\n")
    Path("secret.txt").write_text("a password")
    Path("run").mkdir()
    Path("run/recipe.yaml").write_text("models: {model: {key: of the run}}\n")
    changed = row("a", [done(0, 490, 335, checkpoint="run/student.pt")], base="mine.yaml")
    changed["changes"] = ["method.yaml", "secret.txt", "compare/at", {"k": 1}]
    _, page = report(results([changed]))
    text = "\n".join(page.text)
    assert "Base recipe: mine.yaml" in text
    assert "train.num_epochs: 3  # as few" in text
    assert Path(recipe_file("compare/at")).read_text() in text
    assert "models: {model: {key: of the run}}" in text
    assert "a password" not in text


def test_a_recipe_whose_run_is_gone_is_resolved_anew_and_nothing_of_it_is_run():
    Path("evil.py").write_text("raise SystemExit('imported')")
    Path("mine.yaml").write_text("dependencies: [{name: evil}]\nmodels: {model: {a: 1}}\n")
    _, page = report(
        results([row("a", [done(0, 490, 335)], {"models.model.a": 2}, base="mine.yaml")])
    )
    text = "\n".join(page.text)
    assert "models: {model: {a: 2}}" in text
    assert "as they are now" in text


def test_a_picture_that_would_run_somebody_elses_recipes_is_left_out(caplog):
    Path("evil.py").write_text("raise SystemExit('imported')")
    Path("mine.yaml").write_text("dependencies: [{name: evil}]\nmodels: {model: {a: 1}}\n")
    content = results([row("a", [done(0, 490, 335)], base="mine.yaml")])
    content["rows"][0]["runs"][0]["checkpoint"] = "student.pt"
    report({**content, "plots": [{"kind": "channel_maps"}]})
    assert "no picture channel_maps: only mixacm study, which runs the recipes" in caplog.text
    assert "imported" not in caplog.text


def test_a_large_study_is_a_page_whose_details_are_closed():
    runs = [done(seed, 490, 335) for seed in range(5)]
    html, page = report(results([row(f"row {n}", runs, {WEIGHT: n}) for n in range(30)]))
    assert not any("open" in details for details in page.all("details"))
    assert len(html) < 1_000_000


def test_the_page_needs_nothing_but_itself():
    html, page = report()
    assert not {"script", "link", "iframe"} & {tag for tag, _ in page.elements}
    assert all(image["src"].startswith("data:image/svg+xml;base64,") for image in page.all("img"))
    assert not re.search(r"https?://|url\(|@import", html)


def test_the_page_is_made_for_phones_paper_and_keyboards():
    html, page = report()
    assert html.startswith("<!DOCTYPE html>")
    assert page.all("html") == [{"lang": "en"}]
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.all(
        "meta"
    )
    assert "@media print" in html
    regions = [d for d in page.all("div") if d.get("class") == "scroll"]
    assert len(regions) == len(page.all("table")) == 6  # results, runs, changes of each row
    assert all(r["tabindex"] == "0" and r["aria-label"] for r in regions)
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_failed_runs_are_shown_with_their_errors():
    _, page = report()
    text = " ".join(page.text)
    assert "diverged (3 of 3 seeds failed)" in text
    assert "no KD, seed 2: recipe.yaml: train: the loss became nan" in text


def test_a_teacher_that_could_not_be_measured_is_named_without_a_seed():
    _, page = report(results([row("teacher", [{**failed(0, "no weights"), "seed": None}])]))
    assert "teacher: no weights" in " ".join(page.text)


def test_what_speaks_against_a_figure_is_on_the_page():
    doubtful = done(0, 490, 335)
    doubtful["accuracies"][1]["warnings"] = ["zero gradient (7 of 490 images)"]
    _, page = report(results([row("a", [doubtful])]))
    assert "† a, PGD-20: zero gradient (7 of 490 images)" in page.text


def test_nothing_in_the_results_can_become_markup():
    evil = '<script>alert("1")</script>&amp;'
    content = results([row(evil, [failed(0, evil)], overrides={evil: evil}, reference=[1, 2])])
    content |= {"title": evil, "study": evil, "scale": evil, "packages": {evil: evil}}
    content["reference"] = {"label": evil, "columns": [evil, evil]}
    html, page = report(content)
    assert "<script" not in html
    assert " ".join(page.text).count(evil) >= 10


def test_each_row_has_the_commands_that_train_and_measure_it():
    command = "torchdistill --config recipe.yaml --set 'a.b={c: 1, d: 2}' --seed 3"
    trained = done(3, 490, 335)
    trained["accuracies"].append(accuracy("autoattack", 50, 99, 100, norm="L2", eps=0.5))
    _, page = report(results([row("a", [trained], {"a.b": {"c": 1, "d": 2}})]))
    lines = [line for line in page.text if re.match("torchdistill --|mixacm evaluate", line)]
    measure = "mixacm evaluate --config recipe.yaml --set 'a.b={c: 1, d: 2}' --attack"
    assert lines == [
        command,
        f"{measure} clean --n 500 --seed 0",
        f"{measure} pgd --norm Linf --eps 0.15 --steps 20 --step-size 0.02 --restarts 1 "
        "--n 500 --seed 0",
        f"{measure} autoattack --norm L2 --eps 0.5 --version standard --n 100 --seed 0",
    ]


def test_pictures_that_are_there_are_taken_as_they_are():
    folder = write(results())
    write_report(folder)
    (folder / "bars.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    before = (folder / "bars.svg").read_bytes()
    html = write_report(folder).read_text(encoding="utf-8")
    assert (folder / "bars.svg").read_bytes() == before
    assert "PHN2ZyB4bWxucz0n" in html


def test_the_command_writes_the_page_where_it_is_told(capsys):
    write(results())
    assert run("main", "report", "study", "--out", "new/page.html") == 0
    assert Path("new/page.html").is_file()
    assert capsys.readouterr().out.strip() == "written: new/page.html"


def test_malformed_plots_are_one_line_and_exit_code_2(capsys):
    write(results(plots=[{"kind": "bar"}]))
    assert run("main", "report", "study") == 2
    error = capsys.readouterr().err
    assert "results.json: plots.0.kind" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("nowhere", "nowhere: no such folder; expected the folder of a study (results.json) or of"),
        ("studies/compare", "To run a study: mixacm study studies/compare"),
        ("file.txt", "file.txt: no folder but a file"),
        ("empty", "mixacm study, mixacm quickstart and torchdistill write; there is nothing"),
        ("other", "there is inside/, notes.txt"),
        (".", ".: neither a study nor a run; try mixacm report deep/study\n"),
        ("runs", "runs: neither a study nor a run; try mixacm report runs/a or runs/b\n"),
    ],
)
def test_of_a_folder_that_is_neither_study_nor_run_it_is_said_what_is_there(where, message, capsys):
    for folder in ("empty", "other/inside", "deep"):
        Path(folder).mkdir(parents=True)
    for file in ("file.txt", "other/notes.txt"):
        Path(file).write_text("")
    for folder in ("runs/b", "runs/a"):
        metrics(folder, epoch(0, a=1.0))
    write(results(), "deep/study")
    assert run("main", "report", where) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
