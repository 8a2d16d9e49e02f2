"""The quickstart's digits, and parts of training data."""

from collections import Counter

import pytest
import torch
import torchvision.datasets  # noqa: F401 - torchdistill.datasets expects it to be imported
from sklearn.datasets import load_digits
from torchdistill.datasets.registry import get_dataset
from torchdistill.datasets.wrapper import CRDDatasetWrapper

from mixacm_plugin import Digits, hold_out

SIZES = {"train": 1097, "val": 200, "test": 500}


def test_the_splits_together_are_all_digits_once():
    ours = Counter()
    for split, size in SIZES.items():
        digits = Digits(split)
        assert len(digits) == size
        for image, label in (digits[i] for i in range(size)):
            ours[tuple((image[0] * 16).int().flatten().tolist()), label] += 1
    pixels, labels = load_digits(return_X_y=True)
    theirs = Counter(
        (tuple(int(v) for v in image), int(label))
        for image, label in zip(pixels, labels, strict=True)
    )
    assert len(theirs) == 1797  # no two are alike, so equal counts mean disjoint splits
    assert ours == theirs


@pytest.mark.parametrize("split", SIZES)
def test_a_split_has_the_classes_in_the_proportions_of_the_whole(split):
    whole = Counter(load_digits(return_X_y=True)[1].tolist())
    counts = Counter(Digits(split).targets)
    for digit in range(10):
        assert abs(counts[digit] - whole[digit] * SIZES[split] / 1797) <= 1


@pytest.mark.parametrize("split", SIZES)
def test_images_are_grey_pixels_in_three_channels_between_0_and_1(split):
    digits = Digits(split)
    images = torch.stack([digits[i][0] for i in range(len(digits))])
    assert images.shape[1:] == (3, 8, 8) and images.dtype == torch.float32
    assert images.min() == 0 and images.max() == 1
    assert torch.equal(images, images[:, :1].expand_as(images))


def test_a_split_is_the_same_every_time():
    first = Digits("val")
    torch.manual_seed(1)
    again = get_dataset("Digits")(split="val")
    assert torch.equal(first.images, again.images) and first.targets == again.targets


def test_the_transform_is_applied_to_each_image():
    plain, inverted = Digits("val"), Digits("val", transform=lambda image: 1 - image)
    for index in (0, 199):
        image, label = inverted[index]
        assert torch.equal(image, 1 - plain[index][0]) and label == plain[index][1]


def test_another_split_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="train, val, test; found 'dev'"):
        Digits("dev")


def test_kept_classes_are_the_same_images_labelled_in_the_given_order():
    whole, kept = Digits("test"), Digits("test", classes=[7, 2, 5])
    expected = [(i, [7, 2, 5].index(t)) for i, t in enumerate(whole.targets) if t in (2, 5, 7)]
    assert torch.equal(kept.images, whole.images[[index for index, _ in expected]])
    assert kept.targets == [label for _, label in expected]
    assert kept.classes == ("7", "2", "5") and Digits.classes == tuple("0123456789")


@pytest.mark.parametrize("classes", [[], [1, 1], [9, 10], ["1"]])
def test_classes_that_are_not_different_digits_are_refused(classes):
    with pytest.raises(ValueError, match="Digits: classes must be different digits; found"):
        Digits("test", classes=classes)


PARTS = {
    "digits": lambda part: [tuple(image.flatten().tolist()) for image, _ in Digits(part)],
    "five digits": lambda part: [
        tuple(image.flatten().tolist()) for image, _ in Digits(part, classes=range(5))
    ],
    "held out": lambda part: list(hold_out(range(1010), part, 10)),
}


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_a_share_is_part_of_every_larger_share_and_the_whole_is_the_part(part):
    whole = part("train")
    shares = [part({"train": share}) for share in (0.1, 0.25, 0.5)]
    assert [len(share) for share in shares] == [round(s * len(whole)) for s in (0.1, 0.25, 0.5)]
    for smaller, larger in zip(shares, [*shares[1:], whole], strict=True):
        assert set(smaller) < set(larger)
    assert part({"train": 1.0}) == whole
    assert part({"train": 0.1}) == shares[0]


@pytest.mark.parametrize("part", [{"train": 0}, {"train": 1.5}, {"train": "a"}, {}, {"dev": 0.5}])
def test_a_share_that_cannot_be_taken_is_refused(part):
    for split in (lambda: Digits(part), lambda: hold_out(range(50), part, 5)):
        with pytest.raises(ValueError, match=r"share|must be|expected"):
            split()


def test_held_out_images_and_the_rest_are_the_whole_set_without_overlap():
    whole = range(50)
    parts = {part: list(hold_out(whole, part, 12)) for part in ("train", "val")}
    assert len(parts["val"]) == 12
    assert sorted(parts["train"] + parts["val"]) == list(whole)
    assert parts["val"] != list(whole)[:12]
    assert list(hold_out(whole, "val", 12, seed=1)) != parts["val"]


@pytest.mark.parametrize(
    ("part", "size"),
    [("test", 5), ("val", 0), ("train", 50), ("train", 0.1), ("val", "5"), ("val", True)],
)
def test_a_part_that_cannot_be_held_out_is_refused(part, size):
    with pytest.raises(ValueError, match="hold_out: "):
        hold_out(range(50), part, size)


def test_the_hosts_wrapper_that_contrasts_classes_takes_a_held_out_part():
    part = hold_out(Digits("train"), "train", 97)
    wrapped = CRDDatasetWrapper(part, num_negative_samples=4, mode="exact", ratio=1.0)
    for index in range(10):
        _, label, extra = wrapped[index]
        others = [part[other][1] for other in extra["contrast_idx"]]
        assert others[0] == label and label not in others[1:]


def test_a_part_tells_no_labels_where_the_whole_has_none():
    with pytest.raises(AttributeError, match="range has no targets"):
        _ = hold_out(range(50), "train", 5).targets


class Labelled(list):
    """Images that tell their labels, sorted by class as folders are."""

    targets = [0] * 60 + [1] * 30 + [2] * 10


def test_a_stratified_part_has_the_same_share_of_each_class_and_always_the_same_images():
    whole = Labelled(range(100))
    parts = {part: list(hold_out(whole, part, 20, stratify=True)) for part in ("train", "val")}
    assert [sum(whole.targets[i] == k for i in parts["val"]) for k in range(3)] == [12, 6, 2]
    assert sorted(parts["train"] + parts["val"]) == list(range(100))
    assert list(hold_out(whole, "val", 20, stratify=True)) == parts["val"]
    assert list(hold_out(whole, "val", 20, seed=1, stratify=True)) != parts["val"]


@pytest.mark.parametrize(
    ("whole", "size", "words"),
    [
        (range(50), 5, "stratify needs targets"),
        (Labelled(range(100)), 2, "can't hold out 2 images"),
    ],
)
def test_what_cant_be_stratified_is_refused(whole, size, words):
    with pytest.raises(ValueError, match=f"hold_out: .*{words}"):
        hold_out(whole, "train", size, stratify=True)
