"""A full disk: one line, and what is there stays as it was."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from recipes import mixacm, two_stages, write
from runs import metrics, saved, trained

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("processes_that_find_the_tests_data"),
]


def command(limit, *argv, stdout=subprocess.PIPE):
    """A command in a process whose files can't be larger than so many bytes."""
    return subprocess.run(
        [sys.executable, "-m", "mixacm_plugin", *argv],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )


def train(limit, *argv):
    return command(limit, "train", "--config", "recipe.yaml", "--device", "cpu", *argv)


def assert_one_line(process, words):
    assert process.returncode == 2
    lines = process.stderr.splitlines()
    assert len(lines) == 1
    assert words in lines[0]
    assert not [file for file in Path().rglob(".*") if file.name != ".training.lock"]


@pytest.mark.parametrize("limit", [0, 100, 300_000])
def test_a_run_that_cannot_write_says_so_and_leaves_nothing(limit):
    write()
    process = train(limit)
    assert_one_line(process, "can't write out/")
    assert "File too large" in process.stderr
    assert not list(Path().rglob("*student.pt"))


def test_a_run_that_can_no_longer_write_is_gone_on_with():
    write()
    whole = trained().models["student"].state_dict()
    size = Path("out/student.pt").stat().st_size
    for file in Path("out").iterdir():
        file.unlink()
    text = mixacm().replace("num_epochs: 2", "num_epochs: 1")
    trained(text)
    before = saved()
    write()
    assert_one_line(train(size // 2, "--resume", "out/student.pt"), "run the command again")
    assert saved()["epoch"] == before["epoch"] == 0
    assert train(10 * size, "--resume", "out/student.pt").returncode == 0
    assert [line["epoch"] for line in metrics()] == [0, 1]
    assert all(torch.equal(value, whole[name]) for name, value in saved()["model"].items())


def test_an_earlier_run_is_put_back_where_the_new_one_cannot_be_written():
    trained()
    before = {file: file.read_bytes() for file in Path("out").glob("*.*")}
    assert_one_line(train(300_000, "--overwrite"), "can't write out/best_student.pt")
    assert {f: f.read_bytes() for f in Path("out").glob("*.*")} == before | {
        Path("out/.training.lock"): Path("out/.training.lock").read_bytes()
    }


def test_what_the_host_writes_at_the_end_of_a_stage_is_one_line_too():
    text = two_stages(mixacm()).replace("  stage1:", "  student: {dst_ckpt: stage.pt}\n  stage1:")
    write(text.replace("num_epochs: 2", "num_epochs: 1"))
    assert_one_line(train(200_000, "--set", "train.stage1.num_epochs=1"), "can't write ")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_log_that_cannot_be_written_ends_the_run():
    write()
    process = train(resource.RLIM_INFINITY, "--run_log", "/dev/full")
    assert_one_line(process, "--run_log: can't write /dev/full: No space left on device")


def test_output_that_cannot_be_written_is_one_line():
    with Path("recipes.txt").open("w") as file:
        process = command(1000, "recipes", stdout=file)
    assert process.returncode == 2
    assert process.stderr == "mixacm: error: [Errno 27] File too large\n"
