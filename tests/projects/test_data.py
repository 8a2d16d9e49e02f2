"""Which folders of ``--data`` are parts, and which are classes."""

from pathlib import Path

import pytest

from mixacm_plugin.projects.data import find_data
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
