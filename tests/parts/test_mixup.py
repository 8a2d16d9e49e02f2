"""The mixup collate function: what it mixes, how λ is distributed, how a recipe names it."""

import math
import pickle

import pytest
import torch
import torchvision.datasets  # noqa: F401 - torchdistill.datasets expects it to be imported
from scipy.stats import beta, kstest
from torch.utils.data import DataLoader, TensorDataset
from torchdistill.common.yaml_util import load_yaml_file
from torchdistill.datasets.registry import get_collate_func
from torchdistill.datasets.wrapper import BaseDatasetWrapper

from mixacm_plugin import MixupCollate, Training, mixup_collate, read_recipe


def collate(alpha, num_classes=3):
    return get_collate_func(mixup_collate(alpha, num_classes))


def black_and_white(pairs=1):
    """Samples of which every second is white: mixed, the white one's pixel is λ."""
    images = torch.tensor([0.0, 1.0] * pairs).view(-1, 1, 1, 1)
    return TensorDataset(images, torch.tensor([0, 1] * pairs))


def samples(count=5, dtype=torch.float32):
    return [(torch.rand(3, 4, 4).to(dtype), i % 3) for i in range(count)]


@pytest.mark.parametrize("alpha", [0.2, 1, 1.0])
def test_each_image_is_mixed_with_its_neighbour_and_its_label_alike(alpha):
    given = samples()
    images, labels = collate(alpha)(given)
    plain = torch.stack([image for image, _ in given])
    one_hot = torch.tensor([[float(label == k) for k in range(3)] for _, label in given])
    # Labels 0 1 2 0 1 with their left neighbours 1 0 1 2 0 all differ, so a label tells λ.
    lam = labels[1, 1].item()
    assert 0 < lam < 1
    for mixed, unmixed in ((images, plain), (labels, one_hot)):
        neighbours = torch.stack([unmixed[i - 1] for i in range(5)])
        torch.testing.assert_close(mixed, lam * unmixed + (1 - lam) * neighbours)
    torch.testing.assert_close(labels.sum(1), torch.ones(5))


@pytest.mark.parametrize("alpha", [0, 0.0])
def test_alpha_zero_leaves_images_unmixed_and_labels_one_hot(alpha):
    given = samples(4)
    images, labels = collate(alpha)(given)
    assert torch.equal(images, torch.stack([image for image, _ in given]))
    assert labels.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]]
    assert labels.is_floating_point()


@pytest.mark.parametrize("alpha", [0, 1.0])
def test_samples_with_the_hosts_supplementary_dict_give_a_triple(alpha):
    triples = BaseDatasetWrapper(black_and_white())
    images, labels, extra = collate(alpha)([triples[0], triples[1]])
    assert images.shape == (2, 1, 1, 1) and labels.shape == (2, 3) and extra == {}


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_lambda_follows_the_symmetric_beta_distribution(alpha):
    mix, batch = collate(alpha), list(black_and_white())
    lams = [mix(batch)[0][1].item() for _ in range(1000)]
    assert kstest(lams, beta(alpha, alpha).cdf).pvalue > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_loader_workers_draw_different_lambdas(start_method):
    loader = DataLoader(
        black_and_white(pairs=4),
        batch_size=2,
        num_workers=2,
        collate_fn=collate(1.0, 2),
        multiprocessing_context=start_method,
    )
    lams = [images[1].item() for images, _ in loader]
    assert len(set(lams)) == 4


def test_two_configurations_live_side_by_side():
    keys = [mixup_collate(0, 2), mixup_collate(1.0, 2), mixup_collate(0, 4)]
    assert len(set(keys)) == 3
    shapes = [get_collate_func(key)(list(black_and_white()))[1].shape[1] for key in keys]
    assert shapes == [2, 2, 4]
    assert "alpha=1.0" in keys[1] and "num_classes=4" in keys[2]


def test_the_collate_function_survives_pickling():
    restored = pickle.loads(pickle.dumps(collate(1.0)))
    batch = samples()
    torch.manual_seed(1)
    expected = collate(1.0)(batch)
    torch.manual_seed(1)
    assert all(torch.equal(a, b) for a, b in zip(restored(batch), expected, strict=True))


@pytest.mark.parametrize("read", [load_yaml_file, lambda path: read_recipe(path).build()])
def test_a_recipe_configures_mixup_by_import_call(read, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "collate_fn: !import_call\n"
        "  key: mixacm_plugin.mixup_collate\n"
        "  init: {kwargs: {alpha: 0.2, num_classes: 7}}\n"
    )
    _, labels = get_collate_func(read(str(recipe))["collate_fn"])(samples())
    assert labels.shape == (5, 7)


@pytest.mark.parametrize("alpha", [0, 1.0])
def test_images_that_are_not_floats_are_refused_with_the_transform_to_add(alpha):
    with pytest.raises(ValueError, match=r"torch\.uint8.*ToTensor\(\)"):
        collate(alpha)(samples(dtype=torch.uint8))


@pytest.mark.parametrize(
    ("alpha", "num_classes", "named"),
    [
        (-0.1, 10, "alpha"),
        ("1.0", 10, "alpha"),
        (None, 10, "alpha"),
        (True, 10, "alpha"),
        (float("nan"), 10, "alpha"),
        (float("inf"), 10, "alpha"),
        (1.0, 1, "num_classes"),
        (1.0, 10.0, "num_classes"),
        (1.0, "10", "num_classes"),
        (1.0, True, "num_classes"),
        (1.0, None, "num_classes"),
    ],
)
def test_an_invalid_argument_is_refused_by_name(alpha, num_classes, named):
    with pytest.raises(ValueError, match=f"^mixup_collate: {named} must be"):
        mixup_collate(alpha, num_classes)


def noisy(sigma, n=64):
    generator = torch.Generator().manual_seed(2)
    images = 0.5 + 0.1 * torch.rand((n, 3, 8, 8), generator=generator)
    samples = [(image, index % 3) for index, image in enumerate(images)]
    collates = [get_collate_func(mixup_collate(1.0, 3, **given)) for given in ({}, sigma)]
    batches = []
    for collate in collates:
        torch.manual_seed(0)
        batches.append(collate(samples))
    return batches


def test_noise_is_gaussian_around_the_mixed_images_and_labels_stay():
    (images, labels), (with_noise, same_labels) = noisy({"noise": 0.05})
    assert torch.equal(labels, same_labels)
    noise = ((with_noise - images) / 0.05).flatten()
    assert kstest(noise.double().numpy(), "norm").pvalue > 0.001


def test_noisy_images_stay_in_the_pixel_range():
    _, (images, _) = noisy({"noise": 1.0})
    assert images.min() == 0
    assert images.max() == 1


def test_of_two_deviations_one_in_between_is_drawn_for_each_image():
    (images, labels), (with_noise, same_labels) = noisy({"noise": [0.01, 0.05]}, n=512)
    assert torch.equal(labels, same_labels)
    sigmas = (with_noise - images).flatten(1).std(1)  # of 192 pixels
    assert 0.007 < sigmas.min() < 0.015
    assert 0.04 < sigmas.max() < 0.065
    assert sigmas.mean().item() == pytest.approx(0.03, abs=0.003)


def test_two_equal_deviations_are_one():
    _, (images, _) = noisy({"noise": [0.05, 0.05]})
    _, (same, _) = noisy({"noise": 0.05})
    assert torch.equal(images, same)


@pytest.mark.parametrize(
    ("base", "override"),
    [
        ("quickstart/scratch", None),
        ("quickstart/scratch", "pgd7_at"),
        ("quickstart/mixacm", "rslad"),
    ],
)
@pytest.mark.slow
def test_noise_also_goes_into_training_on_labels_and_on_attacks(base, override, tmp_path):
    """As a fair baseline: without mixup, the same noise for each method."""
    collate = "{key: mixacm_plugin.mixup_collate, init: {kwargs: {KWARGS}}}"
    collate = collate.replace("KWARGS", "alpha: 0.0, num_classes: 10, noise: [0, 0.3]")
    noise = tmp_path / "noise.yaml"
    noise.write_text(f"train.train_data_loader.collate_fn: !import_call {collate}\n")
    overrides = [f"compare/{override}"] if override else []
    box = Training(read_recipe(base, [*overrides, str(noise)]), torch.device("cpu"), seed=0).box
    images, targets, extra = next(iter(box.train_data_loader))
    box.pre_epoch_process(epoch=0)
    assert math.isfinite(box.forward_process(images, targets, extra).item())
    plain = box.train_data_loader.dataset
    pixels = torch.stack([plain[index][0] for index in range(len(plain))]).unique()
    assert not torch.isin(images, pixels).all()


@pytest.mark.parametrize("noise", [-0.1, 1.5, math.inf, True, "0.1", [0.3, 0.1], [0.1], [0, 2]])
def test_noise_that_is_no_standard_deviation_is_refused(noise):
    with pytest.raises(ValueError, match="mixup_collate: noise must be a number from 0 to 1"):
        mixup_collate(1.0, 3, noise)


@pytest.mark.parametrize("alpha", [0, 1.0])
@pytest.mark.parametrize(
    ("label", "words"),
    [(torch.tensor([1]), r"torch.int64 of shape \(2, 1\)"), (torch.eye(3)[0], r"float32 of shape")],
)
def test_labels_that_are_not_one_number_each_are_refused(alpha, label, words):
    with pytest.raises(ValueError, match=words):
        collate(alpha)([(torch.rand(3, 4, 4), label)] * 2)


@pytest.mark.parametrize("alpha", [0, 1.0])
@pytest.mark.parametrize(("label", "words"), [(3, "from 0 to 3; expected 0 to 2"), (-1, "-1 to 0")])
def test_labels_of_other_classes_are_refused(alpha, label, words):
    with pytest.raises(ValueError, match=f"mixup_collate: labels range .*{words}"):
        collate(alpha)([(torch.rand(3, 4, 4), 0), (torch.rand(3, 4, 4), label)])


def test_samples_that_are_no_pairs_are_told_by_what_they_hold():
    with pytest.raises(ValueError, match=r"begins with images and labels.* dict with image, label"):
        MixupCollate(1.0, 3)([{"image": torch.rand(3, 4, 4), "label": 1}] * 2)


@pytest.mark.parametrize("alpha", [0, 1.0])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32])
def test_labels_may_be_of_any_whole_type(alpha, dtype):
    given = [(torch.rand(3, 4, 4), torch.tensor(i % 3, dtype=dtype)) for i in range(4)]
    assert collate(alpha)(given)[1].sum() == pytest.approx(4)


def test_noise_on_images_that_are_not_in_0_to_1_is_refused_and_not_clamped():
    normalised = [(torch.full((3, 4, 4), 1.8), 0), (torch.zeros(3, 4, 4), 1)]
    MixupCollate(0.0, 3)(normalised)
    with pytest.raises(ValueError, match=r"noise is in pixels.*range from 0 to 1\.8"):
        MixupCollate(0.0, 3, noise=0.1)(normalised)


def test_noise_takes_white_that_resizing_rounded_up():
    rounded = [(torch.full((3, 4, 4), 1 + 2.4e-7), 0), (torch.full((3, 4, 4), -2.4e-7), 1)]
    images, _ = MixupCollate(0.0, 3, noise=0.1)(rounded)
    assert images.min() == 0 and images.max() == 1


def test_a_deviation_for_each_sample_is_for_all_its_turned_images():
    turned = [(torch.full((4, 3, 4, 4), 0.5), i % 3) for i in range(8)]
    torch.manual_seed(0)
    images, _ = MixupCollate(0.0, 3, noise=[0, 0.1])(turned)
    spread = (images - 0.5).flatten(2).std(2)  # of each turned image
    assert (spread.std(1) < 0.3 * spread.mean(1)).all()
    assert spread.mean(1).max() > 2 * spread.mean(1).min()
