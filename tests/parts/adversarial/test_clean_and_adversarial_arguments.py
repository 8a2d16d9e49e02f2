"""The forward process with a clean and an adversarial pass: its keys and its arguments."""

import pickle

import pytest
from torchdistill.core.interfaces.registry import get_forward_proc_func

from mixacm_plugin import clean_and_adversarial_forward, shared_forward

ATTACK = {"eps": "8/255", "step_size": "2/255", "steps": 10}


def test_each_configuration_has_a_key_of_its_own_and_can_be_pickled():
    changes = [
        *({"away_from": away_from} for away_from in ("labels", "clean", "teacher")),
        {"start": "gaussian"},
        {"eps": 0.1},
        {"step_size": 0.1},
        {"steps": 1},
        {"norm": "L2"},
        {"both_ways": True},
        {"forward": "forward_bf16"},
    ]
    plain = {"away_from": "labels", **ATTACK}
    keys = {clean_and_adversarial_forward(**{**plain, **change}) for change in changes}
    keys |= {shared_forward(), shared_forward("forward_bf16")}
    assert len(keys) == len(changes) + 2
    assert clean_and_adversarial_forward(**{**plain, "eps": 8 / 255}) in keys
    assert all(callable(pickle.loads(pickle.dumps(get_forward_proc_func(key)))) for key in keys)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"away_from": "student"}, "away_from must be one of labels, clean, teacher"),
        ({"away_from": None}, "away_from must be"),
        ({"start": "zero"}, "start must be one of uniform, gaussian"),
        ({"steps": 0}, "steps must"),
        ({"eps": "eight"}, "eps: "),
        ({"eps": 8}, "eps is in pixels of .0, 1.; found 8, is it 8/255"),
        ({"step_size": -1}, "step_size: "),
        ({"norm": "L1"}, "norm must"),
        ({"both_ways": "yes"}, "both_ways must be True or False"),
        ({"forward": "forward_bf61"}, "forward: no forward process .* Did you mean 'forward_bf16'"),
    ],
)
def test_an_invalid_argument_is_refused_by_name(wrong, words):
    with pytest.raises(ValueError, match=f"clean_and_adversarial_forward: {words}"):
        clean_and_adversarial_forward(**{"away_from": "labels", **ATTACK, **wrong})


@pytest.mark.parametrize(
    "start, eps, warned", [("gaussian", 0.15, 1), ("uniform", 0.15, 0), ("gaussian", "8/255", 0)]
)
def test_steps_from_small_noise_that_cannot_reach_the_edge_are_warned_of(
    start, eps, warned, caplog
):
    clean_and_adversarial_forward("clean", **{**ATTACK, "eps": eps, "start": start})
    lines = [record.message for record in caplog.records if record.name == "mixacm"]
    assert len(lines) == warned
    assert all("10 steps of 0.00784 from near the image can't reach" in line for line in lines)


def test_a_forward_process_that_is_not_there_is_refused_for_the_teacher_too():
    with pytest.raises(ValueError, match="shared_forward: forward: no forward process 'no'"):
        shared_forward("no")
