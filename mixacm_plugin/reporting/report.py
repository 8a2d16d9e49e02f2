"""A study, or a training run, as one HTML page that needs nothing else."""

import os
from collections.abc import Iterator
from pathlib import Path

from ..common.errors import UserError
from ..common.files import replacing, shipped_files
from ..studies.results import read_results
from .courses import FILE
from .plots.study import draw_all
from .run_page import run_page
from .study_page import study_page

STUDY = "results.json"
FEW = 8  # names of what is in a folder


def write_report(
    folder: str | os.PathLike[str], file: str | os.PathLike[str] | None = None
) -> Path:
    """Write the page of a study or of a training run; pictures that are missing are drawn first.

    Args:
        folder: of the study, with its ``results.json``; or of the run, with its checkpoint and
            ``metrics.jsonl``.
        file: to write; by default ``report.html`` in the folder.

    Returns:
        The file.

    Raises:
        RecipeError: if what is in the folder can't be read.
        UserError: if the folder is neither.
    """
    folder = Path(folder)
    folder = folder.parent if folder.is_file() and folder.name in (STUDY, FILE) else folder
    if (folder / STUDY).exists():
        results = read_results(folder)
        pictures = [
            (plot.title or plot.words(), stem.with_name(f"{stem.name}.svg").read_bytes())
            for plot, stem in draw_all(results, folder, missing_only=True)
        ]
        text = study_page(results, pictures, folder)
    elif (folder / FILE).exists():
        text = run_page(folder)
    else:
        raise UserError(f"{folder}: {_what_is_there(folder)}")
    file = folder / "report.html" if file is None else Path(file)
    with replacing(file) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return file


def _what_is_there(folder: Path) -> str:
    """Say what a folder without a study or a run has, and what to do."""
    wanted = (
        f"expected the folder of a study ({STUDY}) or of a training run ({FILE}), which "
        "mixacm study, mixacm quickstart and torchdistill write"
    )
    if not folder.is_dir():
        what = "no folder but a file" if folder.exists() else "no such folder"
        name = folder.as_posix()
        a_study = folder.suffix in (".yaml", ".yml") or name in shipped_files()
        return f"{what}; {wanted}{f'. To run a study: mixacm study {name}' if a_study else ''}"
    below = [path.as_posix() for path in _reportable(folder)]
    if below:
        return f"neither a study nor a run; try mixacm report {' or '.join(below[:FEW])}"
    names = sorted(f"{path.name}{'/' if path.is_dir() else ''}" for path in folder.iterdir())
    more = ", ..." if len(names) > FEW else ""
    return f"{wanted}; there is {', '.join(names[:FEW]) or 'nothing'}{more}"


def _reportable(folder: Path) -> Iterator[Path]:
    """Yield the folders inside that a page can be made of: studies, or if there is none, runs."""
    for name in (STUDY, FILE):
        found = sorted(
            {file.parent for depth in ("*", "*/*") for file in folder.glob(f"{depth}/{name}")}
        )
        yield from found
        if found:
            return
