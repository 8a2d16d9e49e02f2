"""The published teachers: what is said of them, and how their files are found and checked."""

import hashlib
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torchdistill.models.registry import get_model

from mixacm_plugin import dm_wide_resnet, hook_points, robust_teacher
from mixacm_plugin.common.checkpoints import CheckpointError
from mixacm_plugin.common.downloads import DownloadError
from mixacm_plugin.parts.models import teachers
from mixacm_plugin.parts.models.teachers import TEACHERS
from recipes import mixacm, run, write

NAME = "small"
URL = "https://example.invalid/files/small.pt?key=1"
STATE = dm_wide_resnet(10, 1).state_dict()


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    """One more teacher, small enough for tests, and a download folder of the test's own."""
    gowal = TEACHERS["gowal2020_wrn28_10_extra"]
    kwargs = {"depth": 10, "width": 1, "num_classes": 10}
    teacher = replace(gowal, kwargs=kwargs, file="small.pt", url=URL)
    monkeypatch.setitem(TEACHERS, NAME, teacher)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))


@pytest.fixture
def downloads(monkeypatch):
    """Downloads that succeed, and a list of their arguments."""
    made = []

    def download(url, path, sha256=None):
        made.append((url, Path(path), sha256))
        Path(path).parent.mkdir(parents=True)
        torch.save(STATE, path)

    monkeypatch.setattr(teachers, "download", download)
    return made


def assert_loaded(model):
    assert all(torch.equal(value, STATE[name]) for name, value in model.state_dict().items())


def sha256(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


@pytest.mark.parametrize("name", [name for name in TEACHERS if name != NAME])
def test_every_teacher_can_be_built_and_hooked_and_says_where_its_file_is(name):
    teacher = TEACHERS[name]
    with torch.device("meta"):
        model = get_model("robust_teacher", None, name=name, checkpoint=False)
        size = 64 if "imagenet" in teacher.page else 32
        assert model.eval()(torch.rand(1, 3, size, size)).shape == (1, teacher.num_classes)
    assert hook_points(model) == teacher.outline()[0]
    assert hasattr(model, "normalization_mean")
    assert teacher.norm in ("Linf", "L2")
    assert teacher.source
    assert teacher.page.startswith("https://")
    assert teacher.url or teacher.published_as
    assert teacher.robust is None or (teacher.attack and teacher.robust < teacher.clean)
    assert teacher.sha256 is None or re.fullmatch("[0-9a-f]{64}", teacher.sha256)


def test_files_of_different_teachers_do_not_meet_in_the_cache():
    files = [teacher.file for name, teacher in TEACHERS.items() if name != NAME]
    assert len(set(files)) == len(files)


def test_a_file_is_loaded_from_a_path():
    torch.save({"state_dict": {f"module.{k}": v for k, v in STATE.items()}}, "mine.pt")
    assert_loaded(robust_teacher(NAME, "mine.pt"))
    assert_loaded(robust_teacher(NAME, "mine.pt", sha256("mine.pt")))


def test_a_file_is_downloaded_once_and_its_hash_is_told(downloads, caplog):
    for _ in range(2):
        assert_loaded(robust_teacher(NAME))
    cached = Path(torch.hub.get_dir(), "checkpoints", "small.pt")
    assert downloads == [(URL, cached, None)]
    assert sha256(cached) in caplog.text


def test_a_teacher_is_downloaded_from_another_url_with_another_hash(downloads):
    assert_loaded(robust_teacher(NAME, "https://example.invalid/mirror/copy.pt?x=1", "ab12"))
    cached = Path(torch.hub.get_dir(), "checkpoints", "copy.pt")
    assert downloads == [("https://example.invalid/mirror/copy.pt?x=1", cached, "ab12")]


def test_a_hash_may_be_in_upper_case_for_a_download_and_for_the_cached_file(downloads):
    assert_loaded(robust_teacher(NAME, sha256="AB12"))
    ((_, cached, asked_for),) = downloads
    assert asked_for == "ab12"  # digests have lower-case digits
    assert_loaded(robust_teacher(NAME, sha256=sha256(cached).upper()))


@pytest.mark.parametrize("cached", [True, False])
def test_a_file_with_another_hash_is_refused(cached):
    path = Path(torch.hub.get_dir(), "checkpoints", "small.pt") if cached else Path("mine.pt")
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(STATE, path)
    with pytest.raises(CheckpointError, match=f"small.pt|mine.pt.*sha256 {sha256(path)}, not 00"):
        robust_teacher(NAME, None if cached else "mine.pt", "00" * 32)


def test_a_failed_download_is_told_in_a_line(monkeypatch):
    def offline(url, path, sha256=None):
        raise DownloadError(f"can't download {url} (no network)")

    monkeypatch.setattr(teachers, "download", offline)
    with pytest.raises(CheckpointError) as error:
        robust_teacher(NAME, sha256="ab")
    cached = Path(torch.hub.get_dir(), "checkpoints", "small.pt")
    assert "(no network)" in str(error.value)
    assert f"and put it at {cached}, or give checkpoint: FILE" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        ({"name": "gowal2020"}, ValueError, "Did you mean 'gowal2020_wrn"),
        ({"name": NAME, "checkpoint": "none.pt"}, CheckpointError, "not found: none.pt"),
        ({"name": NAME, "checkpoint": True}, CheckpointError, "a file, a URL or False; found True"),
        ({"name": "hendrycks2019_cifar10"}, CheckpointError, "download cifar10wrn_baseline"),
        ({"name": "hendrycks2019_cifar10"}, CheckpointError, "hendrycks2019_cifar10.pt"),
    ],
)
def test_what_cannot_be_had_is_refused(arguments, kind, words):
    with pytest.raises(kind, match=re.escape(words)):
        robust_teacher(**arguments)


def recipe_with(teacher):
    text = mixacm()
    old = re.search(r"  teacher_model:\n.*\n.*\n.*\n", text)[0]
    return text.replace(old, f"  teacher_model:\n    key: robust_teacher\n    kwargs: {teacher}\n")


def test_a_recipe_can_name_a_teacher(capsys):
    write(recipe_with("{name: small, checkpoint: teacher_file.pt}"))
    torch.save(STATE, "teacher_file.pt")
    assert run("torchdistill", "--config", "recipe.yaml", "--device", "cpu") == 0, (
        capsys.readouterr()
    )


def test_a_recipe_with_a_teacher_that_is_not_there_is_refused_in_a_line(capsys):
    write(recipe_with("{name: small, checkpoint: teacher_file.pt}"))
    assert run("torchdistill", "--config", "recipe.yaml", "--device", "cpu") == 2
    error = capsys.readouterr().err
    assert "models.teacher_model.kwargs: CheckpointError: checkpoint not found" in error
    assert error.count("\n") == 1


def test_the_list_says_all_that_a_figure_needs(capsys):
    assert run("main", "teachers") == 0
    out = capsys.readouterr().out
    for name, teacher in TEACHERS.items():
        assert f"{name}\n" in out
        assert teacher.source in out
        assert f"{teacher.norm}, ε {teacher.eps}" in out
    assert "clean 89.48, robust 62.80 (AutoAttack)" in out
    assert "36,479,194 parameters, 146 MB" in out
