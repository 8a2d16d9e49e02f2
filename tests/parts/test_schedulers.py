"""The learning-rate schedule: linear warm-up, then cosine."""

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR
from torchdistill.optim.registry import get_scheduler

from mixacm_plugin import warmup_cosine


def optimizer(*rates):
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in rates]
    return torch.optim.SGD(groups, lr=0.0, momentum=0.9)


def advance(optim, scheduler, epochs):
    """Rates of all groups at the beginning of each of the next epochs."""
    rates = []
    for _ in range(epochs):
        rates.append([group["lr"] for group in optim.param_groups])
        optim.step()
        scheduler.step()
    return rates


def test_the_papers_imagenet_schedule_goes_from_016_to_08_and_to_zero():
    optim = optimizer(0.8)
    scheduler = get_scheduler(optim, "warmup_cosine", epochs=120, warmup_epochs=5, warmup_lr=0.16)
    rates = [rate for (rate,) in advance(optim, scheduler, 125)]
    assert rates[:6] == pytest.approx([0.16, 0.288, 0.416, 0.544, 0.672, 0.8])
    # A fifth of the 115 cosine epochs each: 0.4 (1 + cos 36°), 0.4 (1 + cos 72°), ...
    fifths = [0.4 + 0.3236068, 0.4 + 0.1236068, 0.4 - 0.1236068, 0.4 - 0.3236068, 0.0]
    assert rates[28:121:23] == pytest.approx(fifths, abs=1e-7)
    assert rates[5:121] == sorted(rates[5:121], reverse=True)
    assert rates[121:] == [0.0] * 4


def test_a_schedule_without_warm_up_is_torchs_cosine():
    ours, torchs = optimizer(0.1), optimizer(0.1)
    rates = advance(ours, warmup_cosine(ours, epochs=40), 41)
    expected = advance(torchs, CosineAnnealingLR(torchs, T_max=40), 41)
    torch.testing.assert_close(torch.tensor(rates), torch.tensor(expected), atol=1e-12, rtol=1e-9)


def test_each_group_warms_up_from_the_same_rate_to_its_own():
    optim = optimizer(0.8, 0.2)
    scheduler = warmup_cosine(optim, epochs=8, warmup_epochs=4, warmup_lr=0.4)
    rates = advance(optim, scheduler, 9)
    assert rates[0] == pytest.approx([0.4, 0.4])
    assert rates[2] == pytest.approx([0.6, 0.3])
    assert rates[4] == pytest.approx([0.8, 0.2])
    assert rates[6] == pytest.approx([0.4, 0.1])
    assert rates[8] == pytest.approx([0.0, 0.0])


def test_a_group_with_rate_zero_stays_there():
    optim = optimizer(0.1, 0.0)
    rates = advance(optim, warmup_cosine(optim, epochs=4), 4)
    assert [frozen for _, frozen in rates] == [0.0] * 4


def test_a_second_schedule_on_the_same_optimiser_starts_from_the_first_rate():
    # A later stage of the host's can bring a scheduler of its own for the optimiser that is there.
    optim = optimizer(0.8)
    advance(optim, warmup_cosine(optim, epochs=4), 4)
    scheduler = warmup_cosine(optim, epochs=8, warmup_epochs=2, warmup_lr=0.4)
    assert advance(optim, scheduler, 3) == [
        [pytest.approx(0.4)],
        [pytest.approx(0.6)],
        [pytest.approx(0.8)],
    ]


@pytest.mark.parametrize("stop", [2, 7])
def test_a_schedule_goes_on_from_a_safely_loaded_checkpoint(stop, tmp_path):
    def begin():
        optim = optimizer(0.8, 0.4)
        return optim, warmup_cosine(optim, epochs=10, warmup_epochs=4, warmup_lr=0.1)

    optim, scheduler = begin()
    advance(optim, scheduler, stop)
    file = tmp_path / "state.pt"
    torch.save([optim.state_dict(), scheduler.state_dict()], file)
    resumed, resumed_scheduler = begin()
    states = torch.load(file, weights_only=True)
    resumed.load_state_dict(states[0])
    resumed_scheduler.load_state_dict(states[1])
    rest = 10 - stop
    assert advance(resumed, resumed_scheduler, rest) == advance(optim, scheduler, rest)


@pytest.mark.parametrize(("epochs", "warmup_epochs"), [(5, 5), (5, 6), (5, -1), (0, 0), (-1, 0)])
def test_a_warm_up_that_does_not_fit_is_refused_with_both_lengths(epochs, warmup_epochs):
    with pytest.raises(ValueError, match=f"found {warmup_epochs} of {epochs}"):
        warmup_cosine(optimizer(0.1), epochs=epochs, warmup_epochs=warmup_epochs)
