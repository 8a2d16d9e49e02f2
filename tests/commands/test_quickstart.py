"""The quickstart: how it stops, and how many processes it starts."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mixacm_plugin.common.distributed import available_cpus


@pytest.mark.slow
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
