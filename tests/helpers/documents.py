"""The repository's documents, taken apart: blocks of code, tables, headings, links, commands."""

import re
from dataclasses import dataclass
from pathlib import Path

TOP = Path(__file__).parents[2]
README, GUIDE, CONTRIBUTING = (
    TOP / name for name in ("README.md", "recipes/README.md", "CONTRIBUTING.md")
)
DOCUMENTS = [*sorted(TOP.glob("*.md")), *sorted(TOP.glob("recipes/**/README.md"))]
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")
HEADING = re.compile(r"^(#+) (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Table:
    """A table: its heads, and the cells of each row."""

    heads: tuple[str, ...]
    rows: list[tuple[str, ...]]

    def column(self, index: int) -> list[str]:
        """All that stands in backticks in a column."""
        return [name for row in self.rows for name in CODE.findall(row[index])]


def title_of(document: Path) -> str:
    """A document's name for the ids of tests."""
    return document.relative_to(TOP).as_posix()


def blocks(document: Path, language: str) -> list[str]:
    """Fenced blocks in a language, without their fences."""
    text = document.read_text(encoding="utf-8")
    return [body for found, body in FENCED.findall(text) if found == language]


def prose(document: Path) -> str:
    """A document without its fenced blocks."""
    return FENCED.sub("", document.read_text(encoding="utf-8"))


def section(document: Path, title: str) -> str:
    """What stands under a heading, up to the next one of its level or above; no fenced blocks."""
    text = prose(document)
    found = re.search(rf"^(#+) {re.escape(title)}\n", text, re.MULTILINE)
    assert found, f"{title_of(document)} has no section {title!r}"
    rest = text[found.end() :]
    end = re.search(rf"^#{{1,{len(found[1])}}} ", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


def tables(text: str) -> list[Table]:
    """Tables in Markdown."""
    found = []
    for block in re.findall(r"(?:^\|.*\|\n?)+", text, re.MULTILINE):
        heads, _, *rows = ([c.strip() for c in line.split("|")[1:-1]] for line in block.split("\n"))
        found.append(Table(tuple(heads), [tuple(row) for row in rows if row]))
    return found


def table(document: Path, title: str, first_head: str) -> Table:
    """The table under a heading whose first column has a head."""
    found = [t for t in tables(section(document, title)) if t.heads[0] == first_head]
    assert len(found) == 1, f"{title!r}: {len(found)} tables with {first_head!r}"
    return found[0]


def anchors(document: Path) -> list[str]:
    """Anchors that GitHub gives to a document's headings."""
    found: list[str] = []
    for _, heading in HEADING.findall(prose(document)):
        words = re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", heading).lower()).replace(" ", "-")
        number = sum(re.fullmatch(rf"{re.escape(words)}(-\d+)?", a) is not None for a in found)
        found.append(f"{words}-{number}" if number else words)
    return found


def links(document: Path) -> list[str]:
    """Targets of links and pictures that aren't on the web."""
    return re.findall(r"\]\((?!https?:)([^)\s]+)\)", prose(document))


def commands(document: Path) -> list[str]:
    """Shell commands: lines of shell blocks, and what stands in backticks and is one of ours."""
    lines = [
        line for b in blocks(document, "shell") for line in b.replace("\\\n", " ").splitlines()
    ]
    parts = [part.strip() for line in lines for part in line.partition("#")[0].split("&&")]
    inline = re.findall(r"`((?:mixacm|torchdistill) [^`]+)`", re.sub(r"\s+", " ", prose(document)))
    return [part for part in [*parts, *inline] if part]
