"""Which folders of ``--data`` are parts, and which are classes."""

import weakref
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from torch.utils.data import Dataset
from torchvision.datasets import SVHN

from mixacm_plugin import UserError
from mixacm_plugin.commands.new import _described
from mixacm_plugin.projects.data import find_data
from mixacm_plugin.projects.images import built, look_at
from shapes import SHAPES, draw_shapes


def folders(data):
    return [part and part.folder for part in (data.train, data.val, data.test)]


@pytest.mark.parametrize(
    ("names", "train", "val", "test"),
    [
        (("Train", "Test"), "Train", None, "Test"),
        (("training", "testing"), "training", None, "testing"),
        (("train", "valid"), "train", None, "valid"),
        (("TRAIN", "Validation", "Testing"), "TRAIN", "Validation", "Testing"),
    ],
)
def test_parts_are_found_by_their_usual_names(names, train, val, test):
    for name in names:
        draw_shapes(f"images/{name}", 5)
    data = find_data("images")
    assert folders(data) == [train, val, test]
    assert data.classes == list(SHAPES)


def test_a_class_may_be_called_as_a_part_is_or_have_its_images_in_folders():
    draw_shapes("images", 5, ("circle", "cross"))
    Path("images/circle").rename("images/train")
    Path("images/cross").rename("old")
    Path("images/cross").mkdir()
    Path("old").rename("images/cross/old")
    data = find_data("images")
    assert folders(data) == ["", None, None]
    assert data.classes == ["cross", "train"]


def test_images_that_are_left_out_by_their_kind_are_told():
    draw_shapes("images/train", 5)
    draw_shapes("images/test", 5)
    assert "left out" not in _described(find_data("images"))
    for name in ("train/circle/more.gif", "test/cross/other.JFIF"):
        Image.new("RGB", (16, 16)).save(f"images/{name}")
    Path("images/train/circle/notes.txt").touch()
    told = _described(find_data("images"))
    assert "left out: 2 of a kind that ImageFolder doesn't read, such as " in told
    assert "images/test/cross/other.JFIF; convert them" in told


def shapes_of(dataset):
    return {tuple(dataset[index][0].shape) for index in range(len(dataset))}


@pytest.mark.parametrize("of_val", [16, 40])
def test_images_are_measured_on_at_the_size_of_training_whatever_their_own(of_val):
    draw_shapes("images/train", 5, size=16)
    draw_shapes("images/val", 5, size=of_val)
    draw_shapes("images/test", 5, size=24)
    data = find_data("images")
    assert data.look.train[0] == ("RandomCrop", {"size": 16, "padding": 2})
    assert shapes_of(data.validation_images()) == {(3, 16, 16)}
    assert shapes_of(data.test.build(built(data.look.plain))) == {(3, 16, 16)}


def test_an_image_of_another_size_is_seen_also_where_it_is_in_no_sample():
    draw_shapes("images", 151, SHAPES[:2])
    odd = Path("images/cross/99.png")  # the last of its folder, by name
    Image.open(odd).resize((64, 48)).save(odd)
    data = find_data("images")
    assert data.stratified
    assert [name for name, _ in data.look.train][:1] == ["RandomResizedCrop"]
    assert [name for name, _ in data.look.plain][:2] == ["Resize", "CenterCrop"]


def test_grey_values_of_more_than_8_bits_are_refused():
    draw_shapes("images/train", 5)
    draw_shapes("images/test", 5)
    deep = Path("images/test/circle/0.png")
    Image.fromarray(np.full((16, 16), 3000, np.uint16)).save(deep)
    with pytest.raises(UserError, match=r"test/circle/0\.png has grey values of more than 8 bits"):
        find_data("images")


class Photographs(Dataset):
    """Notes how many of its images are held at a time."""

    def __init__(self):
        self.held, self.most = weakref.WeakValueDictionary(), 0

    def __len__(self):
        return 20

    def __getitem__(self, index):
        image = Image.new("RGB", (40 + index, 30))
        self.held[id(image)] = image
        self.most = max(self.most, len(self.held))
        return image, 0


def test_photographs_are_looked_at_without_holding_all():
    photographs = Photographs()
    look_at(photographs)
    assert photographs.most <= 3


def test_a_data_set_of_torchvision_that_calls_its_targets_labels_tells_its_classes(monkeypatch):
    for name in ("download", "_check_integrity"):
        monkeypatch.setattr(SVHN, name, lambda self: True)
    drawn = np.random.default_rng(0)
    for split in ("train", "test"):
        pixels = drawn.integers(0, 256, (32, 32, 3, 50), dtype=np.uint8)
        labels = np.arange(50).reshape(-1, 1) % 10 + 1  # of the digit 0 it is 10
        savemat(f"{split}_32x32.mat", {"X": pixels, "y": labels})
    data = find_data("SVHN:.")
    assert data.classes == list(map(str, range(10)))
    assert data.stratified
