"""The HTML page of a study: what is on it, and how it renders."""

import re
import shutil
import subprocess
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import pytest

from made_up_results import LABEL, WEIGHT, accuracy, done, failed, results, row, write
from mixacm_plugin.reporting.plots.study import KINDS
from mixacm_plugin.reporting.report import write_report
from recipes import run

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
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
    assert len(page.all("img")) == 1
    assert page.all("img")[0]["alt"] == "Accuracy of each row"


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
    assert len(regions) == len(page.all("table")) == 3
    assert all(r["tabindex"] == "0" and r["aria-label"] for r in regions)
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_failed_runs_are_shown_with_their_errors():
    _, page = report()
    text = " ".join(page.text)
    assert "diverged (3 of 3 seeds failed)" in text
    assert "no KD, seed 2: recipe.yaml: train: the loss became nan" in text


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


def test_a_folder_without_results_is_one_line_and_exit_code_2(capsys):
    assert run("main", "report", "nowhere") == 2
    error = capsys.readouterr().err
    assert "nowhere/results.json" in error
    assert error.count("\n") == 1


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium isn't installed")
@pytest.mark.parametrize("width", [390, 1200])
def test_the_page_doesnt_scroll_sideways(width, tmp_path):
    long = row("many words " * 9 + "x" * 80, [done(0, 490, 335)], overrides={"k" * 90: 1})
    content = results([*results()["rows"], long], title="a" * 120)
    html, _ = report(content)
    # In a frame, since a window has a smallest width.
    probe = """<body><script>onload = () => {
      const page = document.querySelector("iframe").contentDocument;
      const table = page.querySelector(".scroll");
      document.body.dataset.width = page.defaultView.innerWidth;
      document.body.dataset.content = page.documentElement.scrollWidth;
      document.body.dataset.scrolls = table.scrollWidth > table.clientWidth;
    }</script>"""
    frame = (
        f'<iframe width="{width}" height="900" srcdoc="{escape(html)}" frameborder="0"></iframe>'
    )
    page = tmp_path / "page.html"
    page.write_text(f'<meta charset="utf-8">{probe}{frame}', encoding="utf-8")
    off = ("gpu", "quic", "background-networking", "component-update", "sync")
    command = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--no-first-run",
        *(f"--disable-{what}" for what in off),
        f"--user-data-dir={tmp_path / 'profile'}",
        "--window-size=1300,1000",
        "--dump-dom",
        page.as_uri(),
    ]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    found = dict(re.findall(r'data-(\w+)="(\w+)"', re.search("<body[^>]*>", dom)[0]))
    assert int(found["width"]) == width
    assert int(found["content"]) <= width
    if width == 390:  # what is too wide for the page scrolls in its own box
        assert found["scrolls"] == "true"
