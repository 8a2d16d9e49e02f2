"""The commands, as a user calls them."""

import importlib.metadata
import json
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from mixacm_plugin import dm_wide_resnet, load_student
from recipes import Few, loader_accuracy, mixacm, run, scratch, write

TRAIN = ("torchdistill", "--config", "recipe.yaml", "--device", "cpu")
EVALUATE = ("main", "evaluate", "--config", "recipe.yaml", "--device", "cpu")


@pytest.fixture
def student():
    """The plain recipe, and an untrained student where its checkpoint belongs."""
    write()
    model = dm_wide_resnet(10, 1, 10).eval()
    Path("out").mkdir()
    torch.save(model.state_dict(), "out/student.pt")
    return model


def clean_percent(model):
    return 100 * loader_accuracy(model, DataLoader(Few("test", 50), 25))


def test_one_command_trains_and_tests_teacher_and_student(capsys):
    write()
    assert run(*TRAIN, "--seed", "0", "-log_config", "--run_log", "logs/train.log") == 0
    lines = capsys.readouterr().out.splitlines()
    epochs = [line for line in lines if line.startswith("epoch ")]
    assert [line.split("  ")[0] for line in epochs] == ["epoch 1/2", "epoch 2/2"]
    assert all(word in epochs[0] for word in ("loss", "kd", "acm", "lr 0.05", "val", "images/s"))
    for which in ("last", "best"):
        file = "out/student.pt" if which == "last" else "out/best_student.pt"
        accuracy = clean_percent(load_student("recipe.yaml", file))
        said = f"student_model, {which} checkpoint {file}: {accuracy:.2f} % of 50 test images"
        (line,) = (line for line in lines if line.startswith(said))
        assert float(line.rpartition("(top-5 ")[2].removesuffix(" %)")) >= accuracy
    assert any(line.startswith("teacher_model: ") for line in lines)
    assert "  num_epochs: 2" in lines  # -log_config
    log = Path("logs/train.log").read_text()
    assert all(line in log for line in epochs)
    assert "Freezing the whole teacher model" in log  # the host's


def test_a_run_goes_on_from_a_checkpoint_by_command():
    write()
    assert run(*TRAIN, "--seed", "0") == 0
    whole = torch.load("out/student.pt", weights_only=False)
    text = mixacm().replace("num_epochs: 2", "num_epochs: 1")
    write(text)
    assert run(*TRAIN, "--seed", "0", "--overwrite") == 0
    Path("out/student.pt").rename("half.pt")
    write()
    assert run(*TRAIN, "--resume", "half.pt") == 0
    resumed = torch.load("out/student.pt", weights_only=False)
    assert all(torch.equal(whole["model"][k], resumed["model"][k]) for k in whole["model"])


def test_training_without_a_teacher_tests_the_model(capsys):
    write(scratch())
    assert run(*TRAIN) == 0
    assert "\nmodel, last checkpoint " in capsys.readouterr().out


def test_test_only_does_not_train(student, capsys):
    before = Path("out/student.pt").read_bytes()
    assert run(*TRAIN, "-test_only") == 0
    out = capsys.readouterr().out
    said = f"checkpoint out/student.pt: {clean_percent(student):.2f} % of 50 test images"
    assert said in out
    assert "teacher_model: " in out
    assert "epoch" not in out
    assert Path("out/student.pt").read_bytes() == before


@pytest.mark.parametrize("damaged", ["student.pt", "best_student.pt"])
def test_a_checkpoint_that_cant_be_tested_is_told_without_a_flag_of_another_command(
    damaged, student, capsys
):
    Path("out", damaged).write_bytes(b"nothing")
    assert run(*TRAIN, "-test_only") == 2
    error = capsys.readouterr().err
    assert error.startswith("torchdistill: error: recipe.yaml: models.student_model")
    assert f"out/{damaged}" in error


def test_student_only_leaves_the_teacher_out(student, capsys):
    assert run(*TRAIN, "-test_only", "-student_only") == 0
    out = capsys.readouterr().out
    assert "student_model, last checkpoint " in out
    assert "teacher" not in out


def test_start_epoch_skips_the_epochs_before():
    write()
    assert run(*TRAIN, "--start_epoch", "1") == 0
    lines = Path("out/metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1]


def test_help_names_every_flag_of_the_hosts_script(capsys):
    with pytest.raises(SystemExit) as stopped:
        run("torchdistill", "--help")
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    flags = {line.split()[0].rstrip(",") for line in text.splitlines() if line.startswith("  -")}
    assert flags >= {
        *("--config", "--device", "--run_log", "--start_epoch", "--seed", "-test_only"),
        *("-student_only", "-log_config", "--world_size", "--dist_url", "-adjust_lr"),
        "-disable_cudnn_benchmark",
    }
    assert "torchdistill --config mixacm.yaml --seed 0" in text


def test_evaluate_prints_a_table_and_writes_json(student, capsys):
    threat = ("--attack", "pgd", "--eps", "8/255", "--step-size", "2/255", "--steps", "4")
    assert run(*EVALUATE, *threat, "--n", "20", "--seed", "4", "--json", "out/pgd.json") == 0
    row = capsys.readouterr().out.splitlines()[-1]
    assert row.startswith("| student | PGD-4 (step 2/255) | Linf | 8/255 | 20 | 4 |")
    (figures,) = json.loads(Path("out/pgd.json").read_text())
    assert figures["attack"]["eps"] == "8/255"
    assert 0 <= figures["accuracy"] <= figures["clean_accuracy"] <= 1


def test_evaluate_takes_the_teacher_or_another_checkpoint(student, capsys):
    teacher = dm_wide_resnet(10, 1, 10)
    teacher.load_state_dict(torch.load("teacher.pt"))
    percents = []
    for choice in ((), ("--model", "teacher"), ("--ckpt", "teacher.pt")):
        assert run(*EVALUATE, "--attack", "clean", *choice) == 0
        percents.append(capsys.readouterr().out.splitlines()[-1].split("|")[8].strip())
    expected = [clean_percent(model) for model in (student, teacher, teacher)]
    assert percents == [f"{percent:.1f}" for percent in expected]
    assert percents[0] != percents[1]


NORMALISED = (
    "datasets.few/test=!import_call {key: mixacm_plugin.Digits, init: {kwargs: {split: test, "
    "transform: !import_call {key: torchvision.transforms.v2.Normalize, "
    "init: {args: [[0.5, 0.5, 0.5], [0.5, 0.5, 0.5]]}}}}}"
)


@pytest.mark.parametrize(
    "argv, words",
    [
        ([*EVALUATE, "--attack", "clean", "--n", "51"], "--n: n must be between 1 and the 50"),
        (
            [*EVALUATE, "--attack", "clean", "--ckpt", "no.pt"],
            "--ckpt: checkpoint not found",
        ),
        ([*EVALUATE, "--attack", "clean", "--set", NORMALISED], "images range from -1 to 1"),
        ([*EVALUATE, "--attack", "clean", "--device", "tpux"], "--device: torch knows no 'tpux'"),
        ([*TRAIN, "--resume", "no.pt"], "--resume: checkpoint not found: no.pt"),
        ([*TRAIN, "--seed", "-1"], "--seed"),
        ([*TRAIN, "--start_epoch", "-1"], "--start_epoch"),
        ([*TRAIN, "--run_log", "recipe.yaml/x.log"], "recipe.yaml"),
        ([*EVALUATE, "--attack", "clean", "--json", "recipe.yaml/x.json"], "recipe.yaml"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_done_is_refused_in_one_line(argv, words, student, capsys):
    try:
        code = run(*argv)
    except SystemExit as stopped:  # by argparse, after its usage
        code = stopped.code
    assert code == 2
    error = capsys.readouterr().err.splitlines()
    assert words in error[-1]
    assert len(error) == 1 or error[0].startswith("usage:")


@pytest.mark.parametrize(
    "argv, words",
    [
        ([*EVALUATE], "--attack"),
        ([*EVALUATE, "--attack", "fgsm"], "invalid choice: 'fgsm'"),
        (
            [*EVALUATE, "--attack", "pgd", "--norm", "L1"],
            "--norm: norm must be one of",
        ),
        ([*EVALUATE, "--attack", "pgd", "--eps", "wide"], "--eps: expected a number such as 8/255"),
        ([*EVALUATE, "--attack", "pgd", "--eps", "1/0"], "--eps: expected a number"),
        ([*EVALUATE, "--attack", "pgd", "--step-size=-1"], "--step-size: expected a finite number"),
        ([*EVALUATE, "--attack", "pgd", "--steps", "0"], "--steps: expected a whole number"),
        ([*EVALUATE, "--attack", "pgd", "--restarts", "1.5"], "--restarts: expected a whole"),
        ([*EVALUATE, "--attack", "pgd", "--n", "0"], "--n: expected a whole number of at least 1"),
        (["torchdistill"], "required: --config"),
        (["main", "nonsense"], "invalid choice: 'nonsense'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_argument_stops_with_exit_code_2(argv, words, capsys):
    with pytest.raises(SystemExit) as stopped:
        run(*argv)
    assert stopped.value.code == 2
    assert words in capsys.readouterr().err.splitlines()[-1]


def test_the_package_is_a_plugin_of_the_command():
    plugins = importlib.metadata.entry_points(group="torchdistill.plugins")
    assert "mixacm_plugin" in [plugin.value for plugin in plugins]
    scripts = {s.name: s.value for s in importlib.metadata.entry_points(group="console_scripts")}
    assert scripts["torchdistill"] == "mixacm_plugin.cli:torchdistill"
    assert scripts["mixacm"] == "mixacm_plugin.cli:main"


def test_parts_of_another_installed_plugin_can_be_named_without_dependencies(tmp_path, monkeypatch):
    installed = tmp_path / "site"
    info = installed / "other-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[torchdistill.plugins]\nother = other_plugin\n")
    (installed / "other_plugin.py").write_text(
        "from torchdistill.core.interfaces.registry import register_forward_proc_func\n"
        "@register_forward_proc_func(key='others_forward')\n"
        "def forward(model, sample_batch, *args, **kwargs):\n"
        "    return model(sample_batch)\n"
    )
    monkeypatch.syspath_prepend(installed)
    write(scratch("others_forward").replace("dependencies:\n  - name: mixacm_plugin\n", ""))
    assert run(*TRAIN) == 0
    assert "other_plugin" in sys.modules
