"""How the HTML page renders in a browser."""

import re
import shutil
import subprocess
from html import escape

import pytest

from made_up_results import done, results, row, write
from mixacm_plugin.reporting.report import write_report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium isn't installed")
@pytest.mark.parametrize("width", [390, 1200])
def test_the_page_doesnt_scroll_sideways(width, tmp_path):
    long = row("many words " * 9 + "x" * 80, [done(0, 490, 335)], overrides={"k" * 90: 1})
    content = results([*results()["rows"], long], title="a" * 120)
    html = write_report(write(content)).read_text(encoding="utf-8")
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
