"""A recipe's compute block: bfloat16, channels last and compiled passes, whatever the recipe."""

import functools
from pathlib import Path

import pytest
import torch
from torch import nn
from torchdistill.models.registry import register_model

from mixacm_plugin import RecipeError, Training, dm_wide_resnet
from mixacm_plugin.common.images import unpack
from mixacm_plugin.parts import computed
from mixacm_plugin.studies.runs import resolve
from mixacm_plugin.studies.study import read_study
from mixacm_plugin.training.metrics import record_terms
from recipes import CPU, mixacm, recipe, run, scratch, two_stages, write
from runs import kill_in_epoch, saved, trained
from weights import differing

BF16 = "compute.precision=bf16"
LOW = (BF16, "compute.channels_last=True")


def called(name, arguments):
    return f"!import_call {{key: mixacm_plugin.{name}, init: {{kwargs: {{{arguments}}}}}}}"


BALL = "eps: 0.1, step_size: 0.05, steps: 2"
FREE = "&free " + called("free_adversarial_forward", "replays: 2, eps: 0.1")
RECIPES = {
    "MixACM": mixacm(),
    "affine": mixacm(2, 1, "affine"),
    "pooled": mixacm(2, 1, "adaptive_max_pool"),
    "two stages": two_stages(mixacm()),
    "adversarial training": scratch(called("adversarial_forward", BALL)),
    "free adversarial training": scratch(FREE, "  post_forward_process: *free\n"),
}


def first_losses(text, *overrides):
    """Loss and terms of the first batch; the types of what the last layer before the head gives."""
    training = Training(recipe(text, *overrides), CPU, seed=0)
    box, seen = training.box, {}
    for role, model in training.models.items():
        model.relu.register_forward_hook(lambda *args, role=role: seen.update({role: args[2]}))
    batch = unpack(next(iter(box.train_data_loader)), CPU)
    with record_terms(box.criterion) as terms:
        loss = box.forward_process(*batch)
        loss.backward()
    return {**terms, "loss": loss}, seen


@pytest.mark.parametrize("text", RECIPES.values(), ids=RECIPES)
def test_every_model_runs_in_bf16_and_every_term_is_summed_in_fp32(text):
    low, seen = first_losses(text, *LOW)
    exact, _ = first_losses(text)
    assert {value.dtype for value in seen.values()} == {torch.bfloat16}
    assert {term.dtype for term in low.values()} == {torch.float32}
    assert all(v.is_contiguous(memory_format=torch.channels_last) for v in seen.values())
    for name, value in exact.items():
        assert low[name].item() == pytest.approx(value.item(), rel=0.1), name
    assert low["loss"].item() != exact["loss"].item()


@pytest.mark.parametrize("text", RECIPES.values(), ids=RECIPES)
def test_the_checkpoint_is_the_plain_students(text):
    trained(text, *LOW)
    student = dm_wide_resnet(10, 1, 10)
    student.load_state_dict(saved()["model"], strict=True)
    assert {p.dtype for p in student.parameters()} == {torch.float32}


def test_passes_inside_an_attack_are_in_bf16_too():
    training = Training(recipe(RECIPES["adversarial training"], BF16), CPU, seed=0)
    types = []
    training.models["student"].relu.register_forward_hook(lambda *a: types.append(a[2].dtype))
    training.box.forward_process(*unpack(next(iter(training.box.train_data_loader)), CPU))
    assert types == [torch.bfloat16] * 3


def test_it_is_the_same_as_the_forward_process_named_for_each_model():
    named = mixacm().replace("forward_batch_only", "forward_bf16")
    for text, overrides in ((named, ()), (mixacm(), LOW)):
        trained(text, *overrides)
        Path("out/student.pt").rename(f"{len(overrides)}.pt")
    by_name, by_block = (saved(name)["model"] for name in ("0.pt", "2.pt"))
    for name, value in by_name.items():
        torch.testing.assert_close(value, by_block[name], rtol=0.05, atol=0.02)


def test_the_block_decides_where_a_forward_process_says_otherwise():
    named = mixacm().replace("forward_batch_only", "forward_bf16")
    _, seen = first_losses(named, "compute.precision=fp32")
    assert {value.dtype for value in seen.values()} == {torch.float32}


@pytest.mark.parametrize(
    ("text", "overrides"),
    [(mixacm(), LOW), (mixacm().replace("forward_batch_only", "forward_bf16"), ())],
    ids=["block", "forward process"],
)
def test_a_processor_without_bfloat16_is_told_of_once(monkeypatch, caplog, text, overrides):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    for precision, times in (((), 1), (("compute.precision=fp32",), 0)):
        computed._warn_of_emulation.cache_clear()
        caplog.clear()
        first_losses(text, *overrides, *precision)
        assert caplog.text.count("take --precision fp32") == times


def test_a_processor_with_bfloat16_is_not_warned_of(monkeypatch, caplog):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
    computed._warn_of_emulation.cache_clear()
    first_losses(mixacm(), *LOW)
    assert "take --precision fp32" not in caplog.text


def test_validation_stays_in_fp32():
    training = Training(recipe(None, *LOW), CPU, seed=0)
    types = []
    training.models["student"].relu.register_forward_hook(
        lambda module, *a: types.append((module.training, a[1].dtype))
    )
    training.run()
    assert {dtype for training, dtype in types if training} == {torch.bfloat16}
    assert {dtype for training, dtype in types if not training} == {torch.float32}


@pytest.mark.parametrize("text", [mixacm(kind="affine"), two_stages(mixacm())], ids=["affine", "2"])
def test_a_run_in_bf16_is_resumed_bit_for_bit(text):
    trained(text, *LOW)
    whole = saved()["model"]
    kill_in_epoch(Training(recipe(text, *LOW), CPU, 0), 1)
    training = Training(recipe(text, *LOW), CPU)
    training.resume("out/student.pt")
    training.run()
    assert not differing(whole, saved()["model"])


def test_flags_set_the_block_and_another_precision_is_another_run(capsys):
    write()
    argv = ("--config", "recipe.yaml", "--device", "cpu", "--seed", "0")
    assert run("torchdistill", *argv, "--precision", "bf16", "--channels_last") == 0
    assert "compute: {precision: bf16, channels_last: True}" in saved()["recipe"]
    assert run("torchdistill", *argv, "--precision", "fp32", "--channels_last", "--resume") == 2
    there, now = (f"compute: {{precision: {value}, channels" for value in ("bf16", "fp32"))
    message = capsys.readouterr().err
    assert f"there {there}" in message and f"now {now}" in message


def test_a_study_trains_anew_in_another_precision():
    write()
    Path("study.yaml").write_text(
        "base: recipe.yaml\nseeds: [0]\nevaluate: [{attack: clean}]\nrows: [{name: MixACM}]\n"
    )
    study = read_study("study.yaml")
    keys = {resolve(study, Path("cache"), sets)[0].key for sets in ([], [BF16], [*LOW])}
    assert len(keys) == 3


@pytest.mark.parametrize(
    "override, words",
    [
        ("compute.precision=fp16", "compute.precision: expected fp32 or bf16; found 'fp16'"),
        ("compute.compile=yes please", "compute.compile: expected True or False"),
        (
            "compute.presicion=bf16",
            "compute.presicion: compute doesn't read it here; it takes precision,",
        ),
    ],
)
def test_another_value_is_refused(override, words):
    with pytest.raises(RecipeError, match=words.replace("?", r"\?")):
        Training(recipe(None, override), CPU)


@pytest.fixture
def traced(monkeypatch):
    """Let torch.compile trace models without making code of them, which takes minutes."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    yield
    torch.compiler.reset()


COMPILED = {"affine": RECIPES["affine"]}


@pytest.mark.slow
@pytest.mark.parametrize("text", COMPILED.values(), ids=COMPILED)
def test_compiled_models_train_as_others_do(text, traced):
    for overrides in ((), ("compute.compile=True",)):
        trained(text, *overrides)
        Path("out/student.pt").rename(f"{len(overrides)}.pt")
    plain, compiled = (saved(name)["model"] for name in ("0.pt", "1.pt"))
    for name, value in plain.items():
        torch.testing.assert_close(value, compiled[name], rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_hooks_of_a_later_stage_fire_in_compiled_models(traced):
    text = two_stages(mixacm()).replace("*stage", "&second\n    <<: *stage\n    num_epochs: 1")
    trained(text, "compute.compile=True")
    assert saved()["epoch"] == 2


def test_a_compiler_that_does_not_work_is_one_line(monkeypatch):
    def fails(*args, **kwargs):
        raise RuntimeError("No working C++ compiler found\nin many\nlines")

    monkeypatch.setattr(torch, "compile", fails)
    with pytest.raises(RecipeError, match=r"compute.compile: .*No working C\+\+ compiler found; "):
        Training(recipe(None, "compute.compile=True"), CPU)


class WithVolumes(nn.Module):
    """A student with a weight of five dimensions, which has no such memory format."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv3d(1, 2, 3)
        self.head = nn.Linear(2, 10)

    def forward(self, images):
        seen = self.second(self.first(images).unsqueeze(1))
        return self.head(seen.mean((2, 3, 4)))


def test_channels_last_is_for_weights_of_four_dimensions():
    register_model(WithVolumes)
    text = scratch().replace("key: dm_wide_resnet", "key: WithVolumes")
    text = text.replace("{depth: 10, width: 1, num_classes: 10}", "{}")
    training = Training(recipe(text, "compute.channels_last=True"), CPU, seed=0)
    training.run()
    student = training.models["student"]
    assert student.first.weight.is_contiguous(memory_format=torch.channels_last)
    assert student.second.weight.is_contiguous()
