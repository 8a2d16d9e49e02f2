"""Images and labels behind the first batch that can't be used: told in a line, with the place."""

import re
from pathlib import Path

import pytest
from PIL import Image

from recipes import mixacm, recipe, run, scratch, write

TRAIN, VAL, TEST = "train.train_data_loader", "train.val_data_loader", "test.test_data_loader"
IN_STEP = r", in epoch 1, step [12]; no checkpoint was written yet"
CUT = r"image file is truncated \(damaged.py:\d+\)"
ENDED = "the images end after [0-4] of [1-7] batches: the dataset raises StopIteration"
WITHOUT_MIXUP = re.sub("    collate_fn: .*\n", "", scratch())
N = {"train": 32, "val": 40, "test": 50}


def damaged(split, fault, told=False):
    kwargs = f"{{split: {split}, n: {N[split]}, fault: {fault}, told: {told}}}"
    return f"datasets.few/{split}=!import_call {{key: damaged.Damaged, init: {{kwargs: {kwargs}}}}}"


def trained(text, *overrides):
    recipe(text)
    flags = [flag for override in overrides for flag in ("--set", override)]
    return run("torchdistill", "--config", "recipe.yaml", "--device", "cpu", "--seed", "0", *flags)


@pytest.mark.parametrize(
    ("text", "split", "fault", "said"),
    [
        (scratch(), "train", "size", f"{TRAIN}: RuntimeError: stack expects .*{IN_STEP}"),
        (scratch(), "train", "file", f"{TRAIN}: OSError: {CUT}{IN_STEP}"),
        (scratch(), "train", 10, f"{TRAIN}: mixup_collate: labels range .* to 10; .*{IN_STEP}"),
        (WITHOUT_MIXUP, "train", 10, f"train: IndexError: Target 10 is out of bounds.*{IN_STEP}"),
        (scratch(), "val", "size", f"{VAL}: RuntimeError: stack expects .*, after epoch 1; no"),
        (scratch(), "val", "file", f"{VAL}: OSError: {CUT}, after epoch 1; no"),
        (scratch(), "test", "size", f"{TEST}: RuntimeError: stack expects "),
        (scratch(), "test", "file", f"{TEST}: OSError: {CUT}"),
        (scratch(), "train", "stop", f"{TRAIN}: {ENDED}.*{IN_STEP}"),
        (scratch(), "val", "stop", f"{VAL}: {ENDED}.*, after epoch 1; no"),
        (scratch(), "test", "stop", f"{TEST}: {ENDED}"),
        (mixacm(), "val", "file", f"{VAL}: OSError: {CUT}"),
    ],
)
def test_a_damaged_image_is_told_in_a_line_with_its_loader(text, split, fault, said, capsys):
    assert trained(text, damaged(split, fault)) == 2
    error = capsys.readouterr().err
    assert re.search(f"^torchdistill: error: recipe.yaml: {said}", error, re.MULTILINE)
    assert "Traceback" not in error


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_label_below_0_is_found_before_training_where_labels_are_told(split, capsys):
    assert trained(WITHOUT_MIXUP, damaged(split, -1, told=True)) == 2
    assert "-1" in capsys.readouterr().err
    assert not Path("out/metrics.jsonl").exists()


def test_what_a_worker_of_a_loader_raised_is_one_short_line(capsys):
    workers = f"{TRAIN}.kwargs={{batch_size: 16, num_workers: 1}}"
    assert trained(scratch(), damaged("train", "stop"), workers) == 2
    assert re.search(f"{TRAIN}: {ENDED}.*{IN_STEP}$", capsys.readouterr().err.splitlines()[-1])
    assert trained(scratch(), damaged("train", "file"), workers) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert re.search(f"{TRAIN}: OSError: {CUT}{IN_STEP}$", line)


BAD = "images/3/2.jpg"
IN_MEMORY = f"{TRAIN}.dataset_wrapper={{key: ImagesInMemory, kwargs: {{}}}}"
WORKER = f"{TRAIN}.kwargs={{batch_size: 4, num_workers: 1}}"
BY_TORCHVISION = (
    "transform: !import_call {key: torchvision.transforms.v2.ToDtype, init: {kwargs: "
    "{dtype: !import_get {key: torch.float32}, scale: True}}}, "
    "loader: !import_get {key: torchvision.io.decode_image}"
)
BY_PIL = "transform: !import_call {key: torchvision.transforms.ToTensor, init: {}}"


def folder(split, read=BY_PIL):
    """Images of 10 classes, one of which is damaged, as a dataset of a recipe."""
    for number in range(40):
        file = Path(f"images/{number % 10}/{number // 10}.jpg")
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number, 0, 0)).save(file)
    kwargs = f"{{root: images, {read}}}"
    key = "torchvision.datasets.ImageFolder"
    return f"datasets.few/{split}=!import_call {{key: {key}, init: {{kwargs: {kwargs}}}}}"


def truncate():
    Path(BAD).write_bytes(Path(BAD).read_bytes()[:-40])


def write_text():
    Path(BAD).write_text("a shopping list")


@pytest.mark.parametrize(
    ("damage", "split", "read", "overrides"),
    [
        (truncate, "train", BY_PIL, []),
        (write_text, "train", BY_PIL, [WORKER]),
        (write_text, "train", BY_TORCHVISION, []),
        (truncate, "train", BY_PIL, [IN_MEMORY]),
        (truncate, "val", BY_PIL, []),
        (truncate, "test", BY_PIL, []),
    ],
    ids=["PIL", "a worker", "decode_image", "in memory", "validated", "tested"],
)
def test_a_file_that_is_no_image_is_named(damage, split, read, overrides, capsys):
    dataset = folder(split, read)
    damage()
    assert trained(WITHOUT_MIXUP, dataset, *overrides) == 2
    (line,) = [li for li in capsys.readouterr().err.splitlines() if ": error: " in li]
    assert re.search(rf"recipe.yaml: \S+: .*can't read the image {BAD}: \w", line)
    assert "shopping" not in line and "remove it" in line


def test_a_file_that_is_no_image_is_named_by_an_evaluation(capsys):
    write(WITHOUT_MIXUP)
    dataset = folder("test")
    truncate()
    argv = ("evaluate", "--config", "recipe.yaml", "--set", dataset, "--attack", "clean")
    assert run("main", *argv, "--ckpt", "teacher.pt", "--device", "cpu") == 2
    assert f"recipe.yaml: test: can't read the image {BAD}: " in capsys.readouterr().err


@pytest.mark.parametrize("attack", ["clean", "pgd"])
@pytest.mark.parametrize("fault", ["stop", "file"])
def test_a_damaged_image_is_told_by_an_evaluation(attack, fault, capsys):
    write(mixacm())
    flags = () if attack == "clean" else ("--steps", "1", "--eps", "0.1")
    argv = ("evaluate", "--config", "recipe.yaml", "--set", damaged("test", fault), *flags)
    ckpt = ("--model", "teacher", "--ckpt", "teacher.pt", "--batch-size", "20", "--device", "cpu")
    assert run("main", *argv, "--attack", attack, *ckpt) == 2
    told = ENDED if fault == "stop" else f"OSError: {CUT}"
    assert re.search(f"recipe.yaml: test: {told}", capsys.readouterr().err)
