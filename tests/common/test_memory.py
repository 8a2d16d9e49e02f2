"""Freed memory that is kept."""

import subprocess
import sys

import pytest

FAULTS = """
import resource, torch
from mixacm_plugin.common.memory import keep_freed_memory
if {kept}:
    keep_freed_memory()
for number in range(8):
    if number == 3:  # it has found its place
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(16 * 2**20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
def test_a_tensor_of_64_mib_is_cleared_by_the_system_once_and_not_at_each_turn():
    faults = [
        int(subprocess.check_output([sys.executable, "-c", FAULTS.format(kept=kept)]))
        for kept in (False, True)
    ]
    assert faults[1] < faults[0] / 10
