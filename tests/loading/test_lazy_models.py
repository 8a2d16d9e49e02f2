"""Models whose sizes only a first pass tells, which nothing here could load, train or count."""

import pytest

from last_layers import ending_in
from recipes import run, write

WORDS = "LazyLinear 'logits' has no sizes before a first pass; give them, as torch.nn.Linear has"


@pytest.mark.filterwarnings("ignore:Lazy modules")
@pytest.mark.parametrize("role", ["teacher", "student"])
def test_a_lazy_model_is_refused_by_the_layer(role, capsys):
    write(ending_in(role, "lazy"))
    flags = ("--config", "recipe.yaml", "--device", "cpu")
    attack = ("--attack", "clean", "--model", role)
    commands = (
        ("torchdistill", *flags),
        ("main", "check", "recipe.yaml", "--device", "cpu"),
        ("main", "evaluate", *flags, *attack, "--ckpt", "teacher.pt"),
    )
    for command in commands:
        assert run(*command) == 2
        error = capsys.readouterr().err
        assert f"recipe.yaml: models.{role}_model.key: {WORDS}" in error
        assert error.count("\n") == 1


@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_a_lazy_model_of_a_flag_is_refused_by_the_layer(capsys):
    assert run("main", "hooks", "last_layers.ends_in", "--kwargs", "{last: lazy}") == 2
    assert f"{WORDS}" in capsys.readouterr().err
