"""Where the runs of a study run: in processes on this machine, or as jobs of a cluster."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from ..recipe import RecipeError
from .execute import execute
from .runs import Run


class Processes:
    """Launcher that runs a process for each run on this machine.

    Args:
        jobs: how many at a time; on a CPU they share its cores.
    """

    def __init__(self, jobs: int = 1) -> None:
        self.jobs = jobs
        self.running: dict[Path, subprocess.Popen[bytes]] = {}

    def submit(self, run: Run, task: Path) -> None:
        """Start a run, by a task from ``prepare``."""
        threads = str(max(1, (os.cpu_count() or 1) // self.jobs))
        with (run.folder / "log.txt").open("ab") as log:
            self.running[run.folder] = subprocess.Popen(
                [sys.executable, "-m", "mixacm_plugin.studies.execute", str(task)],
                stdout=log,
                stderr=subprocess.STDOUT,
                env={"OMP_NUM_THREADS": threads, **os.environ},
            )

    def finished(self, run: Run) -> bool:
        """Whether a submitted run has ended, well or not."""
        return self.running[run.folder].poll() is not None

    def error(self, run: Run) -> str:
        """Last line that a failed run printed."""
        log = (run.folder / "log.txt").read_text(errors="replace").strip().splitlines()
        return log[-1] if log else f"exit code {self.running[run.folder].returncode}"

    def stop(self) -> None:
        """End what is still running."""
        for process in self.running.values():
            process.terminate()


class Cluster:
    """Launcher that submits each run as a job through submitit.

    Args:
        folder: for submitit's files.
        cluster: ``slurm``, or ``local`` for submitit's own processes on this machine.
        parameters: of submitit's executor, such as ``slurm_partition``.

    Raises:
        RecipeError: if submitit isn't installed.
    """

    def __init__(self, folder: Path, cluster: str, parameters: dict[str, Any]) -> None:
        try:
            import submitit
        except ImportError:
            message = "needs submitit; pip install 'mixacm-plugin[cluster]'"
            raise RecipeError("", "--launcher", message) from None
        self.jobs = 10**6  # the cluster queues
        self.executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
        self.executor.update_parameters(**{"timeout_min": 24 * 60, **parameters})
        self.running: dict[Path, Any] = {}

    def submit(self, run: Run, task: Path) -> None:
        """Queue a run, by a task from ``prepare``."""
        self.running[run.folder] = self.executor.submit(execute, str(task))

    def finished(self, run: Run) -> bool:
        """Whether a submitted run has ended, well or not."""
        return self.running[run.folder].done()

    def error(self, run: Run) -> str:
        """Last line of a failed run's exception."""
        return (str(self.running[run.folder].exception()).strip().splitlines() or ["failed"])[-1]

    def stop(self) -> None:
        """Cancel what is still queued or running."""
        for job in self.running.values():
            job.cancel()


Launcher = Processes | Cluster
