"""Loss terms under bfloat16: computed from float32 activations, summed in float64."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from mixacm_plugin import CleanAndAdversarial, Training
from mixacm_plugin.common.images import unpack
from mixacm_plugin.training.compute import activations_in_float32
from mixacm_plugin.training.epoch import EpochSums
from mixacm_plugin.training.metrics import record_terms
from recipes import CPU, mixacm, recipe

L2 = (
    "        l2: {criterion: {key: MSELoss, kwargs: {}}, "
    "criterion_wrapper: {key: SimpleLossWrapper, kwargs: {"
    "input: {is_from_teacher: False, module_path: relu, io: output}, "
    "target: {is_from_teacher: True, module_path: relu, io: output}}}, weight: 1.0}\n"
)


def in_bf16():
    text = mixacm().replace("forward_batch_only", "forward_bf16")
    return text.replace("      sub_terms:\n", "      sub_terms:\n" + L2)


def test_a_hosts_loss_sees_float32_activations_under_bf16():
    training = Training(recipe(in_bf16()), CPU, seed=0)
    box, seen = training.box, {}
    for role, model in training.models.items():
        model.relu.register_forward_hook(lambda *args, role=role: seen.update({role: args[2]}))
    batch = unpack(next(iter(box.train_data_loader)), CPU)
    with record_terms(box.criterion) as terms:
        box.forward_process(*batch).backward()
    student, teacher = seen["student"], seen["teacher"]
    assert student.dtype == torch.bfloat16
    assert terms["l2"].dtype == torch.float32
    exact = F.mse_loss(student.double(), teacher.double())
    assert float(terms["l2"]) == pytest.approx(float(exact), rel=1e-5)
    assert abs(float(F.mse_loss(student, teacher)) / float(exact) - 1) > 1e-5  # as it would be


@pytest.mark.parametrize("name", ["srd", "kr", "ickd"])
def test_layers_beside_the_student_see_float32_activations_under_bf16(name):
    sets = (f"compare/{name}", "compute.precision=bf16", "train.num_epochs=1")
    training = Training(recipe(None, *sets), CPU, seed=0)
    seen = []
    own = set(training.box.student_model.modules()) - set(training.models["student"].modules())
    for layer in own:
        if next(layer.parameters(recurse=False), None) is not None:
            layer.register_forward_hook(lambda _, args, output: seen.append(output.dtype))
    training.run()
    assert set(seen) == {torch.float32}


def test_an_epochs_mean_does_not_stick_where_a_low_precision_sum_would():
    sums = EpochSums(lr=0.1)
    term = torch.tensor(0.34, dtype=torch.bfloat16)
    for step in range(375):
        sums.add(step, 128, torch.tensor(1.0), {"l2": term})
    sums.read()
    images, _, terms = sums.means(CPU)
    assert images == 48_000
    assert terms["l2"] == pytest.approx(float(term), rel=1e-12)


def test_a_term_may_have_a_dimension_of_one_number():
    sums = EpochSums(lr=0.1)
    sums.add(0, 2, torch.tensor([3.0]), {"crd": torch.tensor([1.0]), "ce": torch.tensor(2.0)})
    assert sums.read() == 3.0
    assert sums.terms == {"crd": 2.0, "ce": 4.0}


def test_the_terms_of_an_epoch_are_told_to_more_digits_than_bfloat16_has():
    Training(recipe(in_bf16()), CPU, seed=0).run()
    lines = Path("out/metrics.jsonl").read_text().splitlines()
    terms = [json.loads(line)["terms"] for line in lines]
    for name in ("l2", "kd", "acm"):
        assert any(float(torch.tensor(t[name]).bfloat16()) != t[name] for t in terms)


def test_outputs_in_parts_keep_their_kind():
    seen = []

    class Term(torch.nn.Module):
        def forward(self, student, teacher, targets):
            seen.append((student, targets))
            return student["."]["output"].clean.sum()

    criterion = torch.nn.Module()
    criterion.term_dict = {"term": (Term(), 1.0)}
    half = torch.ones(2, dtype=torch.bfloat16)
    labels = torch.tensor([1, 2])
    with activations_in_float32(SimpleNamespace(criterion=criterion, model=criterion)):
        criterion.term_dict["term"][0](
            {".": {"output": CleanAndAdversarial(half, half)}}, {}, labels
        )
    ((student, targets),) = seen
    assert isinstance(student["."]["output"], CleanAndAdversarial)
    assert student["."]["output"].adversarial.dtype == torch.float32
    assert targets is labels
