"""A run's folder: one training at a time writes there; what an earlier one has left."""

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ..common.checkpoints import CheckpointError, is_url, load_checkpoint
from ..common.distributed import decided_by_first
from ..common.files import is_running, remove_leftovers, try_writing
from ..reading.recipe import Recipe
from .run_files import RunFiles

LOCK = ".training.lock"
PATIENCE = 10.0  # seconds for which loader workers of a killed run may hold its lock
AUTO = "auto"  # resume the folder's own run, where there is one

_held: set[Path] = set()  # by this process


@contextmanager
def held(recipe: Recipe, files: RunFiles) -> Iterator[None]:
    """Let no other training write into a run's folder during the block.

    The first process holds the lock. What killed runs left unfinished is cleared away.

    Raises:
        RecipeError: if another one does, or the files can't be written.
    """
    folder = Path(os.path.realpath(files.last.parent))
    if folder in _held:  # the command holds it before it is trained
        yield
        return
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        decided_by_first(lambda: _take(recipe, files, lock))
        _held.add(folder)
        yield
    finally:
        _held.discard(folder)
        lock.release()


def _take(recipe: Recipe, files: RunFiles, lock: FileLock) -> None:
    try:
        files.last.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except Timeout:
            if _owner_runs(lock):
                raise
            lock.acquire(timeout=PATIENCE)
        Path(lock.lock_file).write_text(f"{os.getpid()} {socket.gethostname()}")
        _put_back(files)
        for file in files.written:
            remove_leftovers(file)
            try_writing(file)
    except Timeout:
        process = " of ".join(_owner(lock)) or "unknown"
        raise recipe.error(
            files.key,
            f"another training (process {process}) writes into {files.last.parent}; wait for it, "
            "or name a file in another folder",
        ) from None
    except OSError as error:
        raise recipe.error(files.key, f"can't write {files.last}: {error}") from error


def _owner(lock: FileLock) -> list[str]:
    return Path(lock.lock_file).read_text().split()


def _owner_runs(lock: FileLock) -> bool:
    """Whether the lock's owner is known to run; elsewhere and at its very start it isn't known."""
    owner = _owner(lock)
    return owner[1:] == [socket.gethostname()] and is_running(int(owner[0]))


def checkpoint_to_resume(
    recipe: Recipe,
    files: RunFiles,
    resume: str | None,
    *,
    seed: int | None,
    overwrite: bool,
) -> str | None:
    """Return the checkpoint that a run goes on from; nothing where it begins anew.

    Args:
        recipe: of the run.
        files: of the run, whose folder is held.
        resume: a checkpoint, or ``AUTO`` for what is in the folder.
        seed: that is asked for.
        overwrite: whether the run may take the place of an earlier one.

    Raises:
        RecipeError: if an earlier run would be lost, or isn't of this recipe and seed.
    """

    def decide() -> str | None:
        there = [file for file in files.written if file.exists() and file.stat().st_size]
        to_go_on_from = there[:1] not in ([files.ema], [files.metrics])
        if resume == AUTO and to_go_on_from:
            if overwrite:
                message = "goes on with the run that is there; leave out it or --overwrite"
                raise recipe.error("--resume", message)
            if there:  # the best alone, where the first epoch's writing was cut off
                _check_same(recipe, there[0], seed)
            return str(there[0]) if there else None
        if resume not in (None, AUTO):
            named = Path(resume).expanduser()
            if not named.exists() and not is_url(resume):
                raise recipe.error("--resume", f"checkpoint not found: {resume}")
            own = any(named.exists() and named.samefile(file) for file in there)
            there = [] if own else there[: files.last in there]
        if there and not overwrite:
            goes_on = "--resume goes on with it, " if to_go_on_from else ""
            raise recipe.error(
                files.key,
                f"an earlier run has written {there[0]}; {goes_on}--overwrite puts a new run in "
                "its place, and a dst_ckpt in another folder keeps both",
            )
        return None if resume == AUTO else resume

    return decided_by_first(decide)


def _check_same(recipe: Recipe, file: Path, seed: int | None) -> None:
    """Raise ``RecipeError`` if a checkpoint tells that it is of another recipe or seed."""
    try:
        checkpoint = load_checkpoint(file)
    except CheckpointError as error:
        raise recipe.error("--resume", str(error)) from error
    if not isinstance(checkpoint, Mapping):  # which can't be resumed from, as is told then
        return
    there, here = checkpoint.get("recipe", "").splitlines(), recipe.text().splitlines()
    old = (checkpoint.get("args") or {}).get("seed") if there else seed
    if there and there != here:
        differences = [
            f"{what} {', '.join([line.strip() for line in lines if line not in others][:3])}"
            for what, lines, others in (("there", there, here), ("now", here, there))
        ]
    elif seed not in (None, old):
        differences = [f"there seed {old}", f"now seed {seed}"]
    else:
        return
    raise recipe.error(
        "--resume",
        f"{file} is of another run: {'; '.join(differences)}; to go on with it all the same: "
        f"--resume {file}, to begin anew: --overwrite",
    )


@contextmanager
def replaced(files: RunFiles) -> Iterator[None]:
    """Put what the block writes in the place of an earlier run, all of it or nothing.

    The earlier run's files are moved aside; back if the block fails, and by the next training in
    the folder if this one is killed.
    """
    try:
        for file in files.written:  # the last checkpoint goes first and comes last
            if file.exists():
                os.replace(os.path.realpath(file), _aside(file))
        yield
    finally:
        _put_back(files)


def _put_back(files: RunFiles) -> None:
    """Put an earlier run back that was to be replaced, unless a new one is there."""
    incomplete = not files.last.exists()
    for file in files.written:
        if incomplete and _aside(file).exists():
            os.replace(_aside(file), os.path.realpath(file))
        _aside(file).unlink(missing_ok=True)


def _aside(file: Path) -> Path:
    path = Path(os.path.realpath(file))
    return path.with_name(f".{path.name}.replaced")
