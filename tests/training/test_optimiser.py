"""Who is trained and by which schedule is decided on the host's real optimiser."""

import pytest
from torchdistill.models.registry import register_model

from mixacm_plugin import RecipeError, Training, dm_wide_resnet
from mixacm_plugin.reading.checks import check_yaml
from mixacm_plugin.training.prepare import prepare
from recipes import CPU, mixacm, recipe, scratch, two_stages
from weights import differing, state

SGD = "key: SGD, kwargs: {lr: 0.05, momentum: 0.9}"
HOOKS = "forward_hook: {output: [layer.1.block.0.relu_0, relu]}"
TEACHER = f"train.teacher={{forward_proc: forward_batch_only, {HOOKS}"
GROUPS = "[{module: init_conv, kwargs: {lr: 0.01}}, {module: logits, kwargs: {lr: 0.1}}]"
IN_GROUPS = f"train.optimizer={{{SGD}, module_wise_configs: {GROUPS}}}"


def schedule(key, **kwargs):
    given = ", ".join(f"{name}: {value}" for name, value in kwargs.items())
    return f"train.scheduler={{key: {key}, kwargs: {{{given}}}, scheduling_step: 1}}"


def trained(*overrides, text=None):
    """Names of the student's parameters that a short training changes."""
    training = Training(recipe(text, *overrides), CPU, seed=0)
    before = {role: state(model) for role, model in training.models.items()}
    training.run()
    if "teacher" in before:
        assert not differing(before["teacher"], state(training.models["teacher"]))
    parameters = {name for name, _ in training.models["student"].named_parameters()}
    return parameters & set(differing(before["student"], state(training.models["student"])))


@pytest.mark.parametrize(
    "rates",
    [
        schedule("OneCycleLR", max_lr=[0.01, 0.1], total_steps=10),
        schedule("CyclicLR", base_lr=[0.01, 0.02], max_lr=[0.1, 0.2], step_size_up=2),
    ],
)
def test_a_schedule_may_have_a_rate_for_each_group(rates):
    assert trained(IN_GROUPS, rates) == {"init_conv.weight", "logits.weight", "logits.bias"}


def test_a_schedule_of_another_number_of_groups_is_refused():
    rates = schedule("OneCycleLR", max_lr=[0.01, 0.1, 1.0], total_steps=10)
    with pytest.raises(RecipeError, match=r"scheduler\.kwargs: ValueError: .*max_lr"):
        Training(recipe(None, IN_GROUPS, rates), CPU)


def test_an_optimiser_of_matrices_alone_may_be_given_matrices_alone():
    matrices = "module_wise_kwargs: [{module: logits.weight}]"
    only = f"train.optimizer={{key: Muon, kwargs: {{lr: 0.01}}, {matrices}}}"
    assert trained(only, text=scratch()) == {"logits.weight"}


def test_what_a_wrapper_has_beside_the_student_is_trained_too():
    groups = f"train.optimizer={{{SGD}, module_wise_configs: [{{module: model.logits}}]}}"
    with pytest.raises(RecipeError, match=r"train\.optimizer: 'linear\.weight', which .* random"):
        Training(recipe(None, "compare/srd", groups), CPU)


@register_model
def frozen_below(**kwargs):
    """A WideResNet that freezes its first layer by itself."""
    model = dm_wide_resnet(**kwargs)
    model.init_conv.requires_grad_(False)
    return model


def test_weights_that_a_model_froze_and_a_later_stage_trains_are_warned_of():
    text = scratch().replace("key: dm_wide_resnet", "key: frozen_below")
    assert "init_conv.weight" not in trained(text=text)
    text = two_stages(text)
    assert "init_conv.weight" in trained(text=text)
    (warning,) = prepare(recipe(text), CPU, seed=0).warnings
    assert warning == (
        "train.stage2.model: 1 of the tensors that it had frozen itself would be trained, e.g. "
        "'init_conv.weight': at the end of a stage torchdistill frees them all; name their modules "
        "in frozen_modules"
    )
    named = "train.stage2.model={forward_proc: forward_batch_only, frozen_modules: [init_conv]}"
    assert not prepare(recipe(text, named), CPU, seed=0).warnings


@pytest.mark.parametrize("teacher", ["", ", requires_grad: True"])
def test_groups_of_the_student_alone_leave_the_teacher_untrained(teacher):
    assert trained(f"{TEACHER}{teacher}}}", IN_GROUPS)


def test_groups_of_the_teacher_are_refused():
    theirs = "[{module: logits, is_teacher: True, kwargs: {lr: 0.1}}]"
    optimiser = f"train.optimizer={{{SGD}, module_wise_configs: {theirs}}}"
    with pytest.raises(RecipeError, match=r"requires_grad: the teacher would be trained \(2"):
        Training(recipe(None, f"{TEACHER}}}", optimiser), CPU)


def test_a_teacher_may_be_frozen_module_by_module():
    parts = ("init_conv", "layer", "batchnorm", "logits")
    assert trained(f"{TEACHER}, frozen_modules: [{', '.join(parts)}]}}")
    with pytest.raises(RecipeError, match="the teacher would be trained"):
        Training(recipe(None, f"{TEACHER}, frozen_modules: [{', '.join(parts[1:])}]}}"), CPU)


@pytest.mark.parametrize(
    ("text", "ignored"), [(mixacm(), "module_wise_kwargs"), (scratch(), "module_wise_configs")]
)
def test_groups_under_the_key_that_the_host_ignores_are_warned_of(text, ignored):
    (warning,) = check_yaml(recipe(text, f"train.optimizer={{{SGD}, {ignored}: {GROUPS}}}"))
    assert warning.startswith(f"train.optimizer.{ignored}: the host ignores it here")


def test_what_groups_leave_out_is_warned_of():
    whole = f"{GROUPS[:-1]}, {{module: layer}}, {{module: batchnorm}}]"
    found = [
        prepare(
            recipe(None, f"train.optimizer={{{SGD}, module_wise_configs: {groups}}}"), CPU, seed=0
        ).warnings
        for groups in (whole, GROUPS)
    ]
    assert not found[0]
    (warning,) = found[1]
    assert warning.startswith("train.optimizer: ")
    assert "of the student's" in warning
