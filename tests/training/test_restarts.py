"""Under torchrun: a process that dies ends the others, and a restarted run ends as a whole one."""

import subprocess
import sys
from pathlib import Path

import pytest

from recipes import mixacm, write
from runs import metrics, saved
from weights import differing

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("processes_that_find_the_tests_data"),
    pytest.mark.skipif(sys.platform == "win32", reason="needs signals"),
]
RECIPE = (
    mixacm()
    .replace("{batch_size: 16}", "{batch_size: 4}")  # four steps an epoch in each process
    .replace("log_freq: 100", "log_freq: 2")
    .replace("- name: mixacm_plugin", "- name: mixacm_plugin\n  - name: dying")
    .replace("  pre_epoch", "  post_forward_process: dying\n  pre_epoch", 1)
)
DYING = """\
import os
from pathlib import Path
from torchdistill.core.interfaces.post_forward_proc import default_post_forward_process
from torchdistill.core.interfaces.registry import register_post_forward_proc_func

steps = iter(range(100))

@register_post_forward_proc_func
def dying(self, loss, metrics=None, **kwargs):
    default_post_forward_process(self, loss, metrics, **kwargs)
    if os.environ["RANK"] == "1" and next(steps) == 5 and Path("to die").exists():
        Path("to die").unlink()
        DEATH
"""
DEATHS = {"killed": "os.kill(os.getpid(), 9)", "raised": "raise RuntimeError('I die')"}
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
TRAIN = ("-m", "mixacm_plugin", "train", "--config", "recipe.yaml", "--device", "cpu")


def torchrun(*flags, death=None):
    """Train in two processes, of which one dies where it is said how."""
    write(RECIPE)
    Path("dying.py").write_text(DYING.replace("DEATH", death or "pass"))
    if death is not None:
        Path("to die").touch()
    argv = [sys.executable, *TORCHRUN, *flags, *TRAIN, "--seed", "0", "--save_every", "2"]
    # Far less than what the processes would wait for each other.
    return subprocess.run([*argv, "--resume"], capture_output=True, text=True, timeout=400)


@pytest.mark.parametrize("death", DEATHS.values(), ids=DEATHS)
def test_a_process_that_dies_ends_the_others_and_its_end_is_told(death):
    done = torchrun(death=death)
    assert done.returncode == 1
    root = done.stderr.rpartition("Root Cause")[2]
    assert "rank      : 1" in root
    assert ("SIGKILL" if "kill" in death else "exitcode  : 2") in root
    assert ("I die" in done.stderr) == ("I die" in death)
    assert saved()["epoch"] == 0  # the last step of the second epoch wasn't reached


def test_a_restarted_run_ends_as_one_in_which_nothing_died():
    assert torchrun().returncode == 0
    whole, figures = saved(), [line["loss"] for line in metrics()]
    for file in Path("out").iterdir():
        file.unlink()
    done = torchrun("--max-restarts", "1", death=DEATHS["killed"])
    assert done.returncode == 0, done.stderr
    assert not Path("to die").exists()
    assert not differing(whole["model"], saved()["model"])
    assert [line["loss"] for line in metrics()] == figures
