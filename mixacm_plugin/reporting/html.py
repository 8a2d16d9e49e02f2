"""What the pages have in common: the template engine, and pictures inside a page."""

import base64
import io
from pathlib import Path
from typing import Any

import jinja2
from matplotlib.figure import Figure

from .plots.style import save_svg


def render(template: str, **content: Any) -> str:
    """Fill a template of this folder; all that is put in is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template(template).render(**content)


def inline(svg: bytes | Figure) -> str:
    """Return a picture for ``src``: an image of its own, or the ids of several SVGs collide."""
    if isinstance(svg, Figure):
        drawn = io.BytesIO()
        save_svg(svg, drawn)
        svg = drawn.getvalue()
    return f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"
