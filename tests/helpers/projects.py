"""A project of tiny models, by ``mixacm new``."""

from pathlib import Path

from recipes import run

TINY = "{depth: 10, width: 1}"
MODELS = ("--student", "dm_wide_resnet", "--student-kwargs", TINY)
MODELS += ("--teacher", "dm_wide_resnet", "--teacher-kwargs", TINY)


def new(*argv, data="images", models=MODELS):
    return run("main", "new", "p", "--data", data, *models, "--device", "cpu", *argv)


def text_of(name):
    return (Path("p") / name).read_text()
