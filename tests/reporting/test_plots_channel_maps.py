"""Mean channel maps of a study's rows, drawn beside their teacher."""

import pytest

from made_up_results import done, made, results, row
from mixacm_plugin.evaluation.channel_map_comparison import compare_students
from mixacm_plugin.reporting.plots.study import draw_all
from recipes import write
from weights import checkpoint


def test_a_study_draws_its_rows_beside_their_teacher():
    write()
    checkpoint("study/runs/first/student.pt", 1)  # where the study was moved to
    checkpoint("second/student.pt", 2)  # where it was made
    runs = [done(0, 490, 335, checkpoint=f"{c}/student.pt") for c in ("gone/first", "second")]
    one_epoch = {"train.num_epochs": 1}
    rows = [row("a", runs[:1], one_epoch), row("b", runs[1:], one_epoch)]
    plots = [{"kind": "channel_maps", "n": 10}, {"kind": "channel_maps", "rows": ["b"], "n": 10}]
    (_, first), (_, second) = draw_all(made(results(rows, plots=plots)), "study")
    assert first.with_suffix(".png").stat().st_size > 1000
    assert first.with_suffix(".svg").is_file()
    assert second.with_suffix(".svg").is_file()


def test_a_student_that_is_called_teacher_stands_beside_the_teacher():
    path, student = write(), checkpoint("student.pt", 1)
    compared = compare_students([("teacher", path, [], student)], n=10)
    assert list(compared.maps) == ["teacher (student)", "teacher"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"checkpoint": None}, "where the checkpoints are"),
        ({"checkpoint": "gone.pt"}, "checkpoint not found"),
        ({"base": "gone.yaml"}, "gone.yaml"),
    ],
)
def test_a_study_whose_checkpoints_are_gone_goes_without_the_picture(change, message, caplog):
    write()
    trained = done(0, 490, 335, checkpoint=change.pop("checkpoint", "student.pt"))
    content = results([row("a", [trained], **change)], plots=[{"kind": "channel_maps"}])
    assert draw_all(made(content), "study") == []
    assert message in caplog.text
