"""A schedule is tried over the steps that the host makes of it, before training."""

import re
import textwrap

import pytest

from mixacm_plugin import RecipeError, Training
from mixacm_plugin.preflight.inspection import inspect_recipe
from mixacm_plugin.training.schedule import stages_of_schedule
from recipes import CPU, mixacm, recipe, scratch

PLATEAU = "train.scheduler={{key: ReduceLROnPlateau, kwargs: {}{}}}".format
FREE = (
    "&free !import_call {key: mixacm_plugin.free_adversarial_forward, "
    "init: {kwargs: {replays: 4, eps: 0.1}}}"
)
FREE_AT = scratch(FREE, "  post_forward_process: *free\n")
EPOCHS, BATCHES = 2, 2


def refused(text, *overrides):
    with pytest.raises(RecipeError) as error:
        Training(recipe(text, *overrides), CPU)
    return str(error.value)


@pytest.mark.parametrize(
    "override, words",
    [
        (PLATEAU("{}", ""), "should rise; set mode: max"),
        (PLATEAU("{mode: max}", ", scheduling_step: 1"), "leave out scheduling_step"),
    ],
)
def test_a_plateau_is_one_of_the_accuracy_after_an_epoch(override, words):
    assert words in refused(None, override)


def test_a_plateau_of_accuracy_trains():
    Training(recipe(None, PLATEAU("{mode: max, patience: 0}", "")), CPU, seed=0).run()


def test_a_replayed_batch_is_a_step_of_the_schedule_each_time():
    steps = EPOCHS * BATCHES * 4
    one_cycle = (
        "train.scheduler={{key: OneCycleLR, kwargs: {{max_lr: 0.1, total_steps: {}}}, "
        "scheduling_step: 1}}"
    ).format
    assert f"the stage has {steps}" in refused(FREE_AT, one_cycle(EPOCHS * BATCHES))
    Training(recipe(FREE_AT, one_cycle(steps)), CPU, seed=0).run()


def kept(schedule):
    """Two stages, of which the second goes on with the first one's optimiser and schedule."""
    head, _, rest = mixacm().partition("train:\n")
    train, _, test = rest.partition("test:\n")
    shared, optimizer, after = re.split(r"(  optimizer:\n.*\n.*\n)  scheduler:\n.*\n.*\n", train)
    first = f"    <<: *stage\n{textwrap.indent(optimizer, '  ')}    scheduler: {schedule}\n"
    stages = f"train:\n  stage1:\n{first}  stage2: *stage\n"
    return f"{head}shared: &stage\n{shared}{after}{stages}test:\n{test}"


@pytest.mark.parametrize(
    "schedule, words",
    [
        ("{key: warmup_cosine, kwargs: {epochs: 2}}", "the rate is 0 in all of the stage"),
        ("{key: OneCycleLR, kwargs: {max_lr: 0.1, total_steps: 2}}", "2 long, the stage has 4"),
    ],
)
def test_a_schedule_that_ended_in_an_earlier_stage_is_refused(schedule, words):
    message = refused(kept(schedule))
    assert f"{words}, in train.stage2, which has no scheduler of its own" in message
    assert "train.stage1.scheduler.kwargs" in message


def test_a_schedule_of_two_stages_is_warned_of_where_it_is_short_of_both():
    def warnings(length):
        text = kept(f"{{key: CosineAnnealingLR, kwargs: {{T_max: {length}}}}}")
        return [w for w in inspect_recipe(recipe(text), CPU, seconds=0).warnings if "T_max" in w]

    assert warnings(4) == []
    (found,) = warnings(2)
    assert "2 long, the stages until train.stage2 4 epochs" in found


@pytest.mark.parametrize("of_the_second", ["", "    scheduler: "])
def test_gradients_are_summed_in_a_stage_that_goes_on_with_the_optimiser(of_the_second):
    schedule = "{key: OneCycleLR, kwargs: {max_lr: 0.1, total_steps: LENGTH}, scheduling_step: 1}"
    text = kept(schedule).replace("key: SGD", "key: SGD\n      grad_accum_step: 2")
    if of_the_second:
        second = f"  stage2:\n    <<: *stage\n{of_the_second}{schedule}\n"
        text = text.replace("  stage2: *stage\n", second)
    steps = EPOCHS * BATCHES // 2 * (1 if of_the_second else 2)
    Training(recipe(text.replace("LENGTH", str(steps))), CPU, seed=0).run()
    assert f"the stage has {steps}" in refused(text.replace("LENGTH", str(steps - 1)))


def test_a_stage_goes_on_with_the_schedule_until_it_has_an_optimiser_or_a_schedule():
    own = {"optimizer": {}, "scheduler": {"key": "StepLR"}, "num_epochs": 1}
    kept, other = {"num_epochs": 2}, {"num_epochs": 3, "optimizer": {"key": "SGD"}}
    config = {"train": {"stage1": own, "stage2": kept, "stage3": other, "stage4": kept}}
    paths = [
        [path for path, _ in stages_of_schedule(config, f"train.stage{number}")]
        for number in range(1, 5)
    ]
    assert paths == [["train.stage1"], ["train.stage1", "train.stage2"], [], []]
