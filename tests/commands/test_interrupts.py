"""Ctrl-C, at any time."""

import os
import signal
import subprocess
import sys
import time

import pytest

from recipes import write

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("processes_that_find_the_tests_data"),
    pytest.mark.skipif(sys.platform == "win32", reason="needs signals"),
]


def started(*argv):
    return subprocess.Popen(
        [sys.executable, "-m", "mixacm_plugin", *argv],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        # A shell's background jobs ignore SIGINT, and with them these tests.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def imports(process, name):
    """Whether a process has mapped a library."""
    with open(f"/proc/{process.pid}/maps") as maps:
        return name in maps.read()


@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="needs /proc")
@pytest.mark.parametrize("library", ["libtorch_cpu", "_multiarray_umath"])
@pytest.mark.parametrize("seconds", [0.0, 0.3, 1.0])
def test_an_interrupt_while_a_command_is_imported_is_exit_code_130_and_silent(library, seconds):
    write()
    with started("train", "--config", "recipe.yaml", "--device", "cpu") as process:
        while not imports(process, library):
            time.sleep(0.01)
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert process.stderr.read() == b""


def test_importing_the_package_elsewhere_leaves_signals_alone():
    code = (
        "import signal\n"
        "before = signal.getsignal(signal.SIGINT)\n"  # ignored in a shell's background jobs
        "import mixacm_plugin\n"
        "assert signal.getsignal(signal.SIGINT) is before"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
