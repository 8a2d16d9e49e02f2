"""The files of a run: what it writes, and that none of it is what it reads."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import yaml

from ..common.files import check_writable, not_written
from ..reading import sections
from ..reading.nodes import walk
from ..reading.recipe import Recipe
from ..reading.sections import Config

WRITTEN = (".dst_ckpt", ".transforms_ckpt")  # keys whose files a run doesn't read


class RunFiles(NamedTuple):
    """What a run keeps in its folder: its checkpoints, also that of a moving average; metrics.

    ``key`` is the key path that names the last checkpoint.
    """

    key: str
    last: Path
    best: Path
    ema: Path
    metrics: Path

    @property
    def written(self) -> tuple[Path, ...]:
        """The files themselves, the last checkpoint first."""
        return self.last, self.best, self.ema, self.metrics


def best_of(last: Path) -> Path:
    """Return where the best checkpoint of a run is kept, beside its last one."""
    return last.parent / f"best_{last.name}"


def ema_of(last: Path) -> Path:
    """Return where the moving average of a run's student is kept, beside its last checkpoint."""
    return last.parent / f"ema_{last.name}"


def files_of(key: str, last: Path) -> RunFiles:
    """Return the files of a run whose last checkpoint, and the key path of it, are given."""
    return RunFiles(key, last, best_of(last), ema_of(last), last.parent / "metrics.jsonl")


def run_files(config: Config) -> RunFiles:
    """Return the files of a run, of which only the built ``models`` are needed."""
    key = f"{sections.model_sections(config)['student']}.dst_ckpt"
    return files_of(key, Path(sections.get(config, key)).expanduser())


def check_files(
    recipe: Recipe,
    config: Config,
    *,
    run_log: str | None = None,
    override_files: Iterable[str] = (),
) -> None:
    """Check that a run can write its files, which are plain ones, and none that it reads.

    A later stage may read what an earlier one has written.

    Args:
        recipe: names the file in errors.
        config: the built recipe.
        run_log: file that is written besides.
        override_files: that are read besides.

    Raises:
        RecipeError: if it doesn't.
    """
    for where, name in _named(config):
        if os.path.basename(name) in ("", ".", ".."):  # which a Path would leave out
            example = os.path.join(name, "student.pt")
            raise recipe.error(where, f"{name!r} is a folder; name a file, such as {example}")
    outputs = list(_outputs(config))
    for where, output in outputs:
        _check_output(recipe, where, output)
    if run_log is not None:
        outputs.append(("--run_log", Path(run_log).expanduser()))
        if outputs[-1][1].is_fifo():  # it would be waited for
            raise recipe.error("--run_log", f"{run_log} is a pipe; name a file")
    inputs = [*_inputs(recipe, config), *(("--set", Path(file)) for file in override_files)]
    for where, output in outputs:
        for reader, file in inputs:
            if _same(output, file):
                hint = " (to go on with a run: --resume)" if reader.startswith("models.") else ""
                message = f"would overwrite {output}, which {reader} reads; name another file{hint}"
                raise recipe.error(where, message)


def _check_output(recipe: Recipe, where: str, output: Path) -> None:
    try:
        if output.is_dir():
            raise recipe.error(where, f"{output} is a folder; name a file")
        if output.exists() and not output.is_file():
            raise recipe.error(where, f"{output} is a pipe or a device; name a file")
        check_writable(output)
    except OSError as error:
        raise recipe.error(where, not_written(output, error)) from error


def _named(config: Config) -> Iterator[tuple[str, str]]:
    """Yield the files that a recipe names for its run to write, the last checkpoint first."""
    key = run_files(config).key
    yield key, sections.get(config, key)
    for section in sections.stage_sections(config).values():
        where = f"train.{section}.dst_ckpt"  # the host writes it at the end of a stage
        file = sections.told(config, where)
        if file and sections.stage_names(config["train"]):
            yield where, file


def _outputs(config: Config) -> Iterator[tuple[str, Path]]:
    files = run_files(config)
    for file in files.written:
        yield files.key, file
    for where, name in list(_named(config))[1:]:
        yield where, Path(name).expanduser()


def _inputs(recipe: Recipe, config: Config) -> Iterator[tuple[str, Path]]:
    yield "the recipe", Path(recipe.path)
    # Built by tags, such as that of a shipped file.
    for path in sections.model_sections(config).values():
        where = f"{path}.src_ckpt"
        if source := sections.get(config, where):
            yield where, Path(source).expanduser()
    later = tuple(f"{path}." for path, _ in list(sections.stages(config))[1:])
    nodes = [(w, n) for w, n in walk(recipe.root) if isinstance(n, yaml.ScalarNode)]
    written = {id(node) for where, node in nodes if where.endswith(WRITTEN)}
    for where, node in nodes:
        # What is written may have its anchor under any name; later stages may read it.
        is_read = where.endswith(".src_ckpt")
        if where.startswith(later) if is_read else id(node) in written:
            continue
        file = os.path.expanduser(node.value)
        if os.path.isfile(file):
            yield where, Path(file)


def _same(one: Path, other: Path) -> bool:
    if one.exists() and other.exists():
        return one.samefile(other)
    return os.path.realpath(one) == os.path.realpath(other)
