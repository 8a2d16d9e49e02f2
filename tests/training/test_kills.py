"""Killed at any moment, in a step, a validation or a write, a run ends as if it hadn't been."""

import subprocess
import sys

import pytest

import kills


@pytest.mark.slow
@pytest.mark.usefixtures("processes_that_find_the_tests_data")
@pytest.mark.skipif(sys.platform == "win32", reason="needs signals and forks")
def test_runs_killed_at_random_moments_end_as_one_that_was_not(request):
    number, seed = request.config.option.kills, request.config.option.draw
    done = subprocess.run(
        [sys.executable, kills.__file__, str(number), seed], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{number} of {number} identical" in done.stdout
