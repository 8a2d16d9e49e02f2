"""Images kept in memory: the same batches as without, and what is refused."""

import pickle
import random

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import chisquare
from torch.utils.data import DataLoader, Dataset, RandomSampler, Subset, default_collate
from torchvision import transforms as v1
from torchvision.datasets import CIFAR10, ImageFolder
from torchvision.transforms import v2

from mixacm_plugin import ImagesInMemory, MixupCollate, RandomImages, Training, hold_out
from mixacm_plugin.common.signals import Stopped
from recipes import CPU, mixacm, recipe
from runs import saved, trained
from weights import differing

AUGMENTED = v1.Compose([v1.RandomCrop(8, padding=2), v1.RandomHorizontalFlip(), v1.ToTensor()])
FLOATS = v2.ToDtype(torch.float32, scale=True)


class Pictures(Dataset):
    """PIL images of noise, as torchvision's datasets hold them."""

    def __init__(self, transform=AUGMENTED, n=100, sizes=(8,)):
        self.transform = transform
        noise = np.random.default_rng(0)
        shapes = [(sizes[i % len(sizes)],) * 2 for i in range(n)]
        self.data = [noise.integers(0, 256, (*shape, 3), "uint8") for shape in shapes]
        self.targets = [i % 10 for i in range(n)]

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        image = Image.fromarray(self.data[index])
        return (image if self.transform is None else self.transform(image)), self.targets[index]


class Changed(Pictures):
    """Whose samples are what a function makes of image, label and index."""

    def __init__(self, change):
        super().__init__()
        self.change = change

    def __getitem__(self, index):
        return self.change(*super().__getitem__(index), index)


def turned(when):
    """Pictures that are turned where a function of their index says so."""
    return Changed(lambda i, label, at: (i.rot90(1, (1, 2)) if when(at) else i, label))


def drawn(draw):
    """Pictures that are turned once in a very long while."""
    return turned(lambda _: draw() < 1e-9)


def batches(dataset, collate_fn=None, **arguments):
    torch.manual_seed(1)
    sampler = RandomSampler(dataset)
    loader = DataLoader(dataset, 16, sampler=sampler, collate_fn=collate_fn, **arguments)
    return [tuple(batch) for batch in loader]


def assert_equal(ours, theirs):
    assert len(ours) == len(theirs) > 1
    for one, other in zip(ours, theirs, strict=True):
        for mine, given in zip(one, other, strict=True):
            assert mine.dtype == given.dtype and torch.equal(mine, given)


TRANSFORMS = {
    "crop and flip": AUGMENTED,
    "neither": v1.ToTensor(),
    "flip": v1.Compose([v1.RandomHorizontalFlip(0.3), v1.ToTensor()]),
    "crop without padding": v1.Compose([v1.RandomCrop((6, 7)), v1.ToTensor()]),
    "crop in one direction": v1.Compose([v1.RandomCrop((6, 8)), v1.ToTensor()]),
    "crop that leaves no choice": v1.Compose([v1.RandomCrop(8), v1.ToTensor()]),
    "padded by reflection": v1.Compose(
        [v1.RandomCrop(8, padding=(1, 2), padding_mode="reflect"), v1.ToTensor()]
    ),
    "v2": v2.Compose(
        [v2.RandomCrop(8, padding=2, fill=9), v2.RandomHorizontalFlip(), v2.ToImage(), FLOATS]
    ),
    "v2 padded on each side by itself": v2.Compose(
        [v2.ToImage(), v2.RandomCrop(8, padding=[1, 2, 3, 0], padding_mode="edge"), FLOATS]
    ),
    "filled by channels": v1.Compose(
        [v1.RandomCrop(8, padding=2, fill=(9, 0, 255)), v1.ToTensor()]
    ),
    "v2 filled by channels": v2.Compose(
        [v2.RandomCrop(8, padding=2, fill=[9, 0, 255]), v2.ToImage(), FLOATS]
    ),
    "v2 in one direction": v2.Compose(
        [v2.ToImage(), v2.RandomCrop((8, 5)), v2.RandomHorizontalFlip(), FLOATS]
    ),
}


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
def test_batches_are_bit_for_bit_those_of_the_dataset(transform):
    dataset = Pictures(transform)
    assert_equal(batches(ImagesInMemory(dataset)), batches(dataset))


@pytest.mark.parametrize("collate_fn", [default_collate, MixupCollate(1.0, 10, 0.1)])
def test_any_collate_function_takes_them(collate_fn):
    dataset = Pictures()
    assert_equal(batches(ImagesInMemory(dataset), collate_fn), batches(dataset, collate_fn))


LABELS = {
    "one-hot": lambda number: torch.eye(10)[number],
    "arrays": lambda number: np.eye(10)[number],
    "pairs": lambda number: [number, number + 1],
    "texts": str,
}


@pytest.mark.parametrize("label", LABELS.values(), ids=LABELS)
def test_labels_may_be_anything(label):
    dataset, indices = Changed(lambda image, number, _: (image, label(number))), range(5)
    ours, theirs = (
        default_collate([data[index][1] for index in indices])
        for data in (ImagesInMemory(dataset), dataset)
    )
    assert type(ours) is type(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert np.array_equal(one, other)


@pytest.mark.slow
def test_workers_draw_as_they_do_without():
    dataset = Pictures()
    theirs = batches(dataset, num_workers=2)
    assert_equal(batches(ImagesInMemory(dataset), num_workers=2), theirs)


def cifar(folder):
    (folder / "cifar-10-batches-py").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (20, 3072), "uint8")
    for name in [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]:
        file = folder / "cifar-10-batches-py" / name
        file.write_bytes(pickle.dumps({"data": pixels, "labels": [1] * 20}))
    meta = {"label_names": list("0123456789")}
    (folder / "cifar-10-batches-py" / "batches.meta").write_bytes(pickle.dumps(meta))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CIFAR10, "_check_integrity", lambda _: True)
        patch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
        return CIFAR10(folder, transform=AUGMENTED)


def folder_of_images(folder):
    for index, pixels in enumerate(Pictures(n=40).data):
        file = folder / f"class{index % 2}" / f"{index}.png"
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(file)
    return ImageFolder(folder, transform=AUGMENTED)


DATASETS = {
    "CIFAR10": cifar,
    "ImageFolder": folder_of_images,
    "held out": lambda folder: hold_out(folder_of_images(folder), "train", 7),
    "part of a part": lambda _: Subset(Subset(Pictures(), range(10, 90)), range(0, 80, 2)),
    "random images": lambda _: RandomImages(40, (3, 8, 8), 10, AUGMENTED),
}


@pytest.mark.parametrize("make", DATASETS.values(), ids=DATASETS)
def test_it_takes_every_dataset_of_small_images(make, tmp_path):
    dataset = make(tmp_path)
    assert_equal(batches(ImagesInMemory(dataset)), batches(dataset))


def test_only_the_images_of_a_part_are_kept():
    kept = ImagesInMemory(Subset(Pictures(sizes=(8, 9)), range(0, 100, 2)))
    assert kept.images.shape == (50, 3, 12, 12) and kept.images.dtype == torch.uint8


def test_every_crop_and_flip_is_as_likely_as_another():
    dataset = Pictures(n=1)
    image = v1.functional.to_tensor(Image.fromarray(dataset.data[0]))
    padded = torch.nn.functional.pad(image, (2,) * 4)
    crops = [padded[:, i : i + 8, j : j + 8] for i in range(5) for j in range(5)]
    known = torch.stack([view for crop in crops for view in (crop, crop.flip(2))])
    torch.manual_seed(0)
    views = [view for view, _ in ImagesInMemory(dataset).__getitems__([0] * 5000)]
    which = [(known == view).flatten(1).all(1).nonzero().item() for view in views]
    assert chisquare(np.bincount(which, minlength=50)).pvalue > 0.01


def test_the_generator_is_left_as_it_was_and_it_can_be_sent_to_a_worker():
    before = torch.get_rng_state()
    kept = ImagesInMemory(Pictures())
    assert torch.equal(torch.get_rng_state(), before)
    assert_equal(batches(pickle.loads(pickle.dumps(kept))), batches(kept))


REFUSED = {
    "another transform": (
        lambda: Pictures(v1.Compose([v1.ColorJitter(0.1), v1.ToTensor()])),
        r"transform is \[ColorJitter, ToTensor\]",
    ),
    "another order": (
        lambda: Pictures(v1.Compose([v1.RandomHorizontalFlip(), v1.RandomCrop(8), v1.ToTensor()])),
        r"in this order",
    ),
    "normalised": (
        lambda: Pictures(v1.Compose([v1.ToTensor(), v1.Normalize(0.5, 0.5)])),
        r"transform is \[ToTensor, Normalize\]",
    ),
    "none": (lambda: Pictures(None), "has no transform"),
    "tensors": (lambda: RandomImages(4, (3, 8, 8), 10, torch.Tensor.clone), "transform is"),
    "several sizes": (lambda: Pictures(sizes=(8, 8, 9)), "image 2 is 3×13×13, image 0 is 3×12×12"),
    "too small": (
        lambda: Pictures(v1.Compose([v1.RandomCrop(9), v1.ToTensor()])),
        "smaller than RandomCrop's 9×9",
    ),
    "changed elsewhere": (lambda: turned(lambda _: True), "something that would be lost"),
    "some changed elsewhere": (
        lambda: turned(lambda index: index >= 50),
        "something that would be lost",
    ),
    "rarely changed elsewhere": (lambda: drawn(random.random), "draws at random"),
    "rarely changed by numpy": (lambda: drawn(np.random.rand), "draws at random"),
    "rarely changed by torch": (lambda: drawn(lambda: torch.rand(())), "draws at random"),
    "a fill for each kind": (
        lambda: Pictures(
            v2.Compose([v2.RandomCrop(8, padding=2, fill={Image.Image: 1}), v2.ToImage(), FLOATS])
        ),
        "fill has to be a number",
    ),
    "no pairs": (lambda: Changed(lambda *sample: sample), "aren't pairs"),
}


@pytest.mark.parametrize("make, words", REFUSED.values(), ids=REFUSED)
def test_what_would_be_lost_is_refused(make, words):
    with pytest.raises(ValueError, match=f"ImagesInMemory: .*{words}"):
        ImagesInMemory(make())


def test_more_memory_than_allowed_is_refused_before_it_is_taken():
    with pytest.raises(ValueError, match=r"100 images of 3×12×12 take .* at_most_gib is 1e-05"):
        ImagesInMemory(Pictures(), at_most_gib=1e-5)
    with pytest.raises(ValueError, match="at_most_gib must be a number above 0; found 'all'"):
        ImagesInMemory(Pictures(), at_most_gib="all")


WRAPPER = "    dataset_wrapper: {key: ImagesInMemory}\n"
TRANSFORM = (
    "!import_call {key: torchvision.transforms.Compose, init: {args: [["
    "!import_call {key: torchvision.transforms.RandomCrop, "
    "init: {args: [8], kwargs: {padding: 1}}}, "
    "!import_call {key: torchvision.transforms.ToTensor}]]}}"
)


def pictures(wrapper):
    images = "key: mixacm_plugin.RandomImages, init: {kwargs: {n: 32, shape: [3, 8, 8], "
    images += f"num_classes: 10, transform: {TRANSFORM}}}}}"
    text = mixacm().replace("key: recipes.Few, init: {kwargs: {split: train, n: 32}}", images)
    return text.replace("    dataset_id: few/train\n", f"    dataset_id: few/train\n{wrapper}")


def test_a_recipe_trains_to_the_same_student():
    students = []
    for wrapper in ("", WRAPPER):
        Training(recipe(pictures(wrapper)), CPU, seed=0).run()
        students.append(saved()["model"])
    assert not differing(*students)


def test_an_override_gives_the_wrapper_to_a_recipe_without_one():
    override = "train.train_data_loader.dataset_wrapper={key: ImagesInMemory}"
    box = Training(recipe(pictures(""), override), CPU, seed=0).box
    assert isinstance(box.train_data_loader.dataset, ImagesInMemory)


@pytest.mark.slow
def test_a_run_stopped_within_an_epoch_goes_on_with_the_same_images():
    text = pictures(WRAPPER).replace("{batch_size: 16}", "{batch_size: 4, num_workers: 2}")
    trained(text)
    whole, calls = saved()["model"], iter(range(100))
    with pytest.raises(Stopped):
        Training(recipe(text), CPU, 0).run(asked_to_stop=lambda: 15 * (next(calls) >= 3))
    training = Training(recipe(text), CPU)
    training.resume("out/student.pt")
    training.run()
    assert not differing(whole, saved()["model"])
