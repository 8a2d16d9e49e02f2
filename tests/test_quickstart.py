"""The quickstart: its table and chart, how it stops, and that bfloat16 does what it says."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mixacm_plugin import Accuracy, Attack, RecipeError
from mixacm_plugin.distributed import available_cpus
from mixacm_plugin.quickstart import (
    EPS,
    STUDENTS,
    TEACHER,
    Measured,
    chart,
    quickstart,
    results_table,
)
from recipes import CPU


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
    table = results_table([*rows, measured(TEACHER, None, 400)])
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


def test_the_teacher_has_no_seed_since_it_is_not_trained():
    student, teacher = measured(STUDENTS["mixacm"], 3, 250), measured(TEACHER, None, 400)
    assert [row.label for row in (student, teacher)] == ["MixACM, seed 3", "robust teacher"]
    table = results_table([student, teacher])
    assert "| robust teacher | 99.0 ± 0.9 | 80.0 ± 3.5 | 80.0 ± 3.5 |" in table
    assert "training seed 3." in table


@pytest.mark.parametrize("seeds", [1, 2])
def test_the_chart_has_a_bar_for_every_model_and_measurement(seeds):
    rows = [measured(STUDENTS["kd"], seed, 250) for seed in range(seeds)]
    axes = chart([*rows, measured(TEACHER, None, 400)]).axes[0]
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([99, 99, 50, 80, 50, 80])
    errors = [bars.errorbar[2][0].get_segments() for bars in axes.containers[1::2]]
    lengths = [[ends[1][0] - ends[0][0] for ends in bars] for bars in errors]
    # The interval over images, or over seeds the standard deviation, which the teacher lacks.
    widest = [8.7, 7.0] if seeds == 1 else [0, 0]
    assert lengths[1] == pytest.approx(widest, abs=0.05)


def test_a_failing_student_stops_the_others():
    Path("seed0/mixacm/student.pt").mkdir(parents=True)
    with pytest.raises(RecipeError, match="is a folder"):
        quickstart(Path(), seeds=[0], device=CPU)
    assert not [path for path in Path().rglob("*student.pt") if path.is_file()]


@pytest.mark.skipif(sys.platform == "win32", reason="needs process groups")
def test_ctrl_c_ends_all_processes_at_once():
    command = [sys.executable, "-m", "mixacm_plugin", "quickstart", "--device", "cpu"]
    with subprocess.Popen(
        command,
        start_new_session=True,
        stderr=subprocess.PIPE,
        # A shell's background jobs ignore SIGINT, and with them these tests.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        try:
            wait_until(lambda: list(Path().rglob("metrics.jsonl")))  # a student is trained
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does
            assert process.wait(timeout=30) == 130
            assert process.stderr.read() == b""
            wait_until(lambda: not is_running(process.pid))
        finally:
            if is_running(process.pid):
                os.killpg(process.pid, signal.SIGKILL)


def wait_until(condition):
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def is_running(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_cores_that_the_process_may_not_use_are_not_counted(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {2, 5}, raising=False)
    assert available_cpus() == 2
    monkeypatch.delattr(os, "sched_getaffinity")  # macOS, Windows
    assert available_cpus() == 8
