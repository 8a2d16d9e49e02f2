"""Recipes that YAML reads otherwise than they look, or not at all: one line, before training."""

import pytest

from recipes import edit, mixacm, write_wrong

TERMS = "train.criterion.kwargs.sub_terms"
LINE = "  log_freq: 100"
LINE_NUMBER = mixacm().splitlines().index(LINE) + 1


MERGED = edit("  val_data_loader:", "  val_data_loader: &validation")
MERGED = edit(
    "    dataset_id: few/test\n", "    <<: *validation\n    dataset_id: few/test\n", MERGED
)
BOMB = "\n".join(
    [
        "  a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]",
        *(f"  a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)),
    ]
)

# A recipe, an override of the plain one, or both. Then the beginning of the key path, and words
# of the message.
TABLE = [
    (edit("lr: 0.05", "lr: 5e-2"), "train.optimizer.kwargs.lr", "write 5.0e-2"),
    ("train.optimizer.kwargs.lr=5e-4", "train.optimizer.kwargs.lr", "YAML reads 5e-4 as text"),
    (edit(LINE, f"{LINE}: 2"), f"line {LINE_NUMBER}, column 16", "YAML syntax: mapping values"),
    ("train.num_epochs=010", "train.num_epochs", "YAML 1.1 reads 010 as 8; write that, or '010'"),
    ("train.log_freq=1:30", "train.log_freq", "YAML 1.1 reads 1:30 as 90"),
    (edit("        kd:\n", "        7:\n"), f"{TERMS}.7", "which YAML reads as 7; write '7'"),
    # YAML that can't be walked
    (edit(LINE, "  own: &own [*own]"), "line ", "an anchor contains itself"),
    (edit(LINE, f"  own: {'[' * 500}{']' * 500}"), "", "nested deeper than 100 levels"),
    (edit(LINE, BOMB), "", "aliases make more than 100,000 values"),
    (f"train.log_freq={'[' * 500}{']' * 500}", "--set train.log_freq", "nested deeper than 100"),
    (
        (MERGED, "train.val_data_loader=null"),
        "test.test_data_loader",
        "expected a mapping or list of mappings for merging",
    ),
]


@pytest.mark.parametrize("wrong, where, words", TABLE, ids=[f"{w}: {x}" for _, w, x in TABLE])
def test_a_value_that_yaml_reads_otherwise_is_refused_in_one_line(
    wrong, where, words, assert_refused
):
    assert_refused(where, words, *write_wrong(wrong))
