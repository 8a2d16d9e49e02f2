"""What a run writes: never what it reads, and only plain files."""

import os
from pathlib import Path

import pytest

from mixacm_plugin import Training
from recipes import CPU, mixacm, recipe, run, two_stages, write
from runs import saved, trained

DST = "dst_ckpt: out/student.pt"
TRAIN = ("torchdistill", "--config", "recipe.yaml", "--device", "cpu")


def linked(kind):
    Path("out").mkdir()
    if kind == "symbolic":
        Path("out/student.pt").symlink_to(Path("teacher.pt").absolute())
    else:
        os.link("teacher.pt", "out/student.pt")


INPUTS = {  # what makes an output of an input
    "teacher": lambda: write(mixacm().replace(DST, "dst_ckpt: teacher.pt")),
    "by another path": lambda: write(mixacm().replace(DST, "dst_ckpt: ./x/../teacher.pt")),
    "symbolic link": lambda: (write(), linked("symbolic")),
    "hard link": lambda: (write(), linked("hard")),
    "the recipe": lambda: write(mixacm().replace(DST, "dst_ckpt: recipe.yaml")),
    "best checkpoint": lambda: (
        write(mixacm().replace(DST, "dst_ckpt: s.pt").replace(": teacher.pt", ": best_s.pt")),
        Path("teacher.pt").rename("best_s.pt"),
    ),
}


@pytest.mark.parametrize("make", INPUTS.values(), ids=INPUTS)
def test_a_file_that_a_run_reads_is_never_one_that_it_writes(make):
    make()
    before = {file: file.read_bytes() for file in Path().rglob("*.*") if file.is_file()}
    assert run(*TRAIN) == 2
    assert {f: f.read_bytes() for f in Path().rglob("*.*") if f.is_file()} == before


def test_what_would_be_overwritten_and_who_reads_it_is_told(assert_refused):
    write(mixacm().replace(DST, "dst_ckpt: teacher.pt"))
    words = "would overwrite teacher.pt, which models.teacher_model.src_ckpt reads"
    assert_refused("models.student_model.dst_ckpt", words)


def test_a_checkpoint_that_initialises_is_not_overwritten(assert_refused):
    write(mixacm().replace(DST, "src_ckpt: teacher.pt\n    dst_ckpt: teacher.pt"))
    assert_refused("models.student_model.dst_ckpt", "(to go on with a run: --resume)")


@pytest.mark.parametrize(
    "argv",
    [("--run_log", "teacher.pt"), ("--run_log", "o.yaml"), ("--run_log", "recipe.yaml")],
    ids=lambda argv: argv[1],
)
def test_a_log_never_takes_the_place_of_what_is_read(argv, capsys):
    write()
    Path("o.yaml").write_text("train.num_epochs: 1\n")
    before = Path(argv[1]).read_bytes()
    assert run(*TRAIN, "--set", "o.yaml", *argv) == 2
    assert "--run_log: would overwrite" in capsys.readouterr().err
    assert Path(argv[1]).read_bytes() == before


def test_a_later_stage_reads_what_an_earlier_one_has_written():
    text = two_stages(mixacm()).replace("  stage1:", "  student: {dst_ckpt: between.pt}\n  stage1:")
    Path("between.yaml").write_text("train.stage2.student.src_ckpt: between.pt\n")
    for _ in range(2):  # also where the file is there already
        trained(text, "between.yaml")
    assert saved()["epoch"] == 3


def test_what_a_stage_writes_is_not_what_the_first_one_reads(assert_refused):
    text = two_stages(mixacm()).replace("  stage1:", "  teacher: {dst_ckpt: teacher.pt}\n  stage1:")
    write(text)
    assert_refused("train.teacher.dst_ckpt", "would overwrite teacher.pt")


def test_the_name_of_what_is_written_may_have_an_anchor_of_its_own():
    text = "file: &file out/student.pt\n" + mixacm().replace(DST, "dst_ckpt: *file")
    trained(text)
    Training(recipe(text), CPU)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
@pytest.mark.parametrize("name", ["student.pt", "best_student.pt", "metrics.jsonl"])
def test_only_files_are_written(make, name, capsys):
    write()
    Path("out").mkdir()
    make(Path("out", name))
    assert run(*TRAIN) == 2
    kind = "folder" if make is os.mkdir else "pipe"
    assert f"models.student_model.dst_ckpt: out/{name} is a {kind}" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["runs/", "runs/.", ".", "..", "''", "~/"])
def test_a_name_that_only_a_folder_can_have_is_no_file(name, assert_refused):
    write(mixacm().replace(DST, f"dst_ckpt: {name}"))
    assert_refused("models.student_model.dst_ckpt", "is a folder; name a file, such as ")


def test_what_a_stage_writes_is_no_folder_either(assert_refused):
    text = two_stages(mixacm()).replace("  stage1:", "  student: {dst_ckpt: runs/}\n  stage1:")
    write(text)
    assert_refused("train.student.dst_ckpt", "'runs/' is a folder; name a file")


@pytest.mark.parametrize(
    "file", ["recipe.yaml/x/s.pt", "/proc/x/student.pt", f"out/{'x' * 300}.pt", f"{'x' * 300}/s.pt"]
)
def test_a_file_that_cannot_be_written_is_found_by_mixacm_check(file, capsys):
    write(mixacm().replace(DST, f"dst_ckpt: {file}"))
    assert run("main", "check", "recipe.yaml", "--device", "cpu") == 2
    error = capsys.readouterr().err
    assert f"recipe.yaml: models.student_model.dst_ckpt: can't write {file}: " in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("flag", ["--resume", "--run_log"])
def test_pipes_are_not_waited_for(flag, capsys):
    write()
    os.mkfifo("pipe")
    assert run(*TRAIN, flag, "pipe") == 2
    assert f"{flag}: " in capsys.readouterr().err
    assert not Path("out/student.pt").exists()


def test_a_checkpoint_that_is_a_pipe_is_not_waited_for(assert_refused):
    write()
    Path("teacher.pt").unlink()
    os.mkfifo("teacher.pt")
    assert_refused("models.teacher_model.src_ckpt", "checkpoint teacher.pt isn't a file")


def test_too_long_a_name_is_found_before_training(assert_refused):
    write(mixacm().replace(DST, f"dst_ckpt: out/{'x' * 240}.pt"))
    assert_refused("models.student_model.dst_ckpt", "File name too long")
    assert not list(Path("out").glob("*.pt"))


def test_a_link_that_is_written_stays_one():
    Path("out").mkdir()
    Path("out/student.pt").symlink_to("../elsewhere.pt")
    for _ in range(2):  # where it leads nowhere yet, then in place of an earlier run
        trained(None, "train.num_epochs=1")
        assert Path("out/student.pt").is_symlink()
        assert saved("elsewhere.pt")["epoch"] == 0
