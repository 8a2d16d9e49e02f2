"""The quickstart: its table, and that bfloat16 and its recipes do what they say."""

import pytest
import torch

from mixacm_plugin import Accuracy, Attack, dm_wide_resnet, forward_bf16
from mixacm_plugin.quickstart import EPS, STUDENTS, TEACHER, Measured, results_table


def measured(name, seed, pgd):
    figures = {"clean": ("clean", 495), "PGD-20": ("pgd", pgd), "AutoAttack": ("autoattack", pgd)}
    return Measured(
        name,
        seed,
        {
            title: Accuracy(correct, 495, 500, Attack(attack, eps=EPS, step_size="0.02"), 0)
            for title, (attack, correct) in figures.items()
        },
    )


def test_several_seeds_give_means_spreads_and_the_effect_of_acm_seed_by_seed():
    pgd = {"kd_mixup": (300, 310, 320), "mixacm": (310, 330, 350)}
    rows = [measured(STUDENTS[n], s, v) for n, vs in pgd.items() for s, v in enumerate(vs)]
    table = results_table([*rows, measured(TEACHER, 0, 400)])
    # 60, 62, 64 and 62, 66, 70 %: gains of 2, 4 and 6 points.
    assert "| KD + mixup | 99.0 ± 0.0 | 62.0 ± 2.0 | 62.0 ± 2.0 |" in table
    assert "| MixACM | 99.0 ± 0.0 | 66.0 ± 4.0 | 66.0 ± 4.0 |" in table
    assert "| robust teacher | 99.0 | 80.0 | 80.0 |" in table
    assert "clean +0.0 ± 0.0, PGD-20 +4.0 ± 2.0, AutoAttack +4.0 ± 2.0" in table


def test_one_seed_gives_half_the_interval_over_test_images():
    table = results_table([measured(STUDENTS["mixacm"], 3, 250)])
    # Wilson: 1.96 / (1 + 1.96^2 / 500) * sqrt(0.25 / 500 + 1.96^2 / (4 * 500^2)) = 4.4 points.
    assert "| MixACM | 99.0 ± 0.9 | 50.0 ± 4.4 | 50.0 ± 4.4 |" in table
    assert "training seed 3." in table


def test_bfloat16_gives_float32_logits_close_to_those_of_float32():
    model = dm_wide_resnet(10, 1).eval()
    images = torch.rand(8, 3, 8, 8)
    with torch.no_grad():
        exact, rounded = model(images), forward_bf16(model, images)
    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, exact)
    assert rounded.sub(exact).norm() / exact.norm() == pytest.approx(0, abs=0.05)
