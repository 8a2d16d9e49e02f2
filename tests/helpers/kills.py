"""Kill trainings at random moments: ``python kills.py NUMBER SEED``, in an empty folder.

Each training is forked from this process, which has imported everything and trained nothing, so
that it starts in no time. What isn't as it should be ends with an AssertionError.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

import mixacm_plugin.commands.train  # noqa: F401  before forking
from recipes import mixacm, run, write
from runs import figures, saved
from weights import differing

RECIPE = mixacm().replace("{batch_size: 16}", "{batch_size: 4}").replace("epochs: 2", "epochs: 9")
ARGV = ("--config", "recipe.yaml", "--device", "cpu", "--seed", "0", "--save_every", "2")
SIGNALS = ("SIGKILL", "SIGTERM", "SIGINT")


def train(kill: int | None = None, after: float = 0.0) -> tuple[int, float]:
    """Train in this folder, to the end or until it is killed.

    Args:
        kill: a signal's number.
        after: so many seconds from its beginning.

    Returns:
        The exit code, below 0 for a signal, and the seconds it took.
    """
    begun = time.monotonic()
    process = os.fork()
    if not process:
        with Path("log.txt").open("a") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        try:
            os._exit(run("torchdistill", *ARGV, "--resume"))
        except BaseException as error:
            print(repr(error), flush=True)
            os._exit(99)
    if kill is not None:
        time.sleep(after)
        os.kill(process, kill)  # no other process has the number until it is waited for
    _, status = os.waitpid(process, 0)
    return os.waitstatus_to_exitcode(status), time.monotonic() - begun


def main(number: int, seed: str) -> None:
    """Compare each training that was killed and resumed with one that wasn't."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    draw, top, killed = random.Random(seed), Path.cwd(), 0
    write(RECIPE)
    code, seconds = train()
    assert code == 0, Path("log.txt").read_text()
    whole, best, whole_figures = saved(), saved("out/best_student.pt"), figures()
    while killed < number:
        name, after = SIGNALS[killed % len(SIGNALS)], draw.uniform(0.0, seconds)
        folder = top / f"killed {killed}"
        folder.mkdir(exist_ok=True)
        os.chdir(folder)
        write(RECIPE)
        signum = signal.Signals[name]
        code, _ = train(signum, after)
        if code == 0:  # it was faster this time
            for file in Path("out").iterdir():
                file.unlink()
            continue
        killed += 1
        said = f"{name} after {after:.3f} of {seconds:.3f} s: exit code {code}"
        there = ", ".join(sorted(os.listdir("out"))) if Path("out").exists() else "nothing"
        print(f"{said}; then there was {there}", flush=True)
        assert code in (-signum, 128 + signum), Path("log.txt").read_text()
        assert train()[0] == 0, Path("log.txt").read_text()
        assert not differing(whole["model"], saved()["model"]), said
        assert not differing(best["model"], saved("out/best_student.pt")["model"]), said
        assert figures() == whole_figures, said
        assert not [file for file in os.listdir("out") if file.endswith(".tmp")], said
    print(f"{killed} of {number} identical")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
