"""Where the runs of a study run: in processes on this machine, or as jobs of a cluster."""

import json
import multiprocessing
import os
import signal
import sys
from contextlib import nullcontext
from multiprocessing import forkserver, resource_tracker
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from ..common.distributed import available_cpus
from ..common.errors import UserError
from ..common.signals import Stopped, held_back
from .execute import execute, execute_logged
from .runs import Run

FORKS = sys.platform == "linux"  # elsewhere there is no fork, or libraries don't survive it
PATIENCE = 60.0  # seconds for a run to end
TIMEOUTS = 100  # of a job, which is queued again after each; submitit's own limit is 3


class Processes:
    """Launcher that runs a process for each run on this machine.

    Args:
        jobs: how many at a time; on a CPU they share its cores, of several GPUs each has one.
    """

    def __init__(self, jobs: int = 1) -> None:
        self.jobs = jobs
        self.together = nullcontext
        # Forked from one process that has spent the seconds which importing takes.
        self.context: Any = multiprocessing.get_context("forkserver" if FORKS else "spawn")
        if FORKS:
            self.context.set_forkserver_preload([execute_logged.__module__])
        self.running: dict[Path, BaseProcess] = {}
        self.gpus: dict[Path, str] = {}  # one for each run, where there are several
        self.logged: dict[Path, int] = {}  # bytes, by earlier attempts

    def submit(self, run: Run, task: Path) -> None:
        """Start a run, by a task from ``prepare``."""
        log = run.folder / "log.txt"
        log.touch()
        self.logged[run.folder] = log.stat().st_size
        threads = str(max(1, available_cpus() // self.jobs))
        environment = {"OMP_NUM_THREADS": threads, **os.environ, **self._gpu(run.folder, task)}
        if FORKS:
            resource_tracker.ensure_running()  # it begins by lifting what is held back
            with held_back(signal.SIGINT):  # which is for this process alone
                forkserver.ensure_running()
        process = self.context.Process(target=execute_logged, args=(task, log, environment))
        process.start()
        self.running[run.folder] = process

    def _gpu(self, folder: Path, task: Path) -> dict[str, str]:
        """Show a run the GPU with the fewest runs alone, unless the user has named one."""
        count = torch.cuda.device_count()
        if count < 2 or json.loads(task.read_text())["device"] not in (None, "cuda"):
            return {}
        shown = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(count)))
        busy = [gpu for run, gpu in self.gpus.items() if self.running[run].is_alive()]
        self.gpus[folder] = min(shown.split(","), key=busy.count)
        return {"CUDA_VISIBLE_DEVICES": self.gpus[folder]}

    def finished(self, run: Run) -> bool:
        """Whether a submitted run has ended, well or not."""
        return not self.running[run.folder].is_alive()

    def error(self, run: Run) -> str:
        """Last line that a failed run printed, or the signal that killed it."""
        code = self.running[run.folder].exitcode or 0
        if code < 0:  # such as SIGKILL, where memory runs out
            return f"killed by {signal.Signals(-code).name}"
        log = (run.folder / "log.txt").read_bytes()[self.logged[run.folder] :]
        lines = log.decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"exit code {code}"

    def stop(self) -> None:
        """End what is still running, and wait for it."""
        for process in self.running.values():
            process.terminate()
        for process in self.running.values():
            process.join(PATIENCE)
            process.kill()


class Job:
    """A run as a job of submitit's: its tasks share it, and where it is queued again it goes on."""

    def __call__(self, task: str, parent: int | None) -> None:
        """Execute a task from ``prepare``; see ``execute``."""
        import submitit

        shared = submitit.JobEnvironment().num_tasks > 1
        if shared:  # as torchrun tells its processes
            submitit.helpers.TorchDistributedEnvironment().export(set_cuda_visible_devices=False)
            if torch.cuda.device_count() == 1:  # each task is shown its own alone
                os.environ["LOCAL_RANK"] = "0"
        try:
            execute(task, parent, shared=shared)
        except Stopped as stopped:
            if stopped.number == signal.SIGUSR2:  # pre-empted, or out of time
                os.kill(os.getpid(), signal.SIGUSR2)  # for submitit, which queues the job again
                signal.pause()  # of several tasks one does that, and all are ended
            while submitit.JobEnvironment().cluster == "slurm":
                # It may also pre-empt by SIGTERM, and queue the job again by itself: until it ends
                # this process nothing is said, which would be taken for the run's end.
                signal.pause()
            raise

    def checkpoint(self, task: str, parent: int | None) -> Any:
        """Return what is queued again: a run goes on by itself."""
        import submitit

        return submitit.helpers.DelayedSubmission(self, task, parent)


class Cluster:
    """Launcher that submits each run as a job through submitit.

    Args:
        folder: for submitit's files.
        cluster: ``slurm``, or ``local`` for submitit's own processes on this machine.
        parameters: of submitit's executor, such as ``slurm_partition``.
        jobs: how many at a time.

    Raises:
        UserError: if submitit isn't installed, or has no such cluster or parameter.
    """

    def __init__(self, folder: Path, cluster: str, parameters: dict[str, Any], jobs: int) -> None:
        try:
            import submitit
        except ImportError:
            message = "needs submitit; pip install 'mixacm-plugin[cluster]'"
            raise UserError(f"--launcher: {message}") from None
        self.jobs = jobs
        # On this machine runs end with us; a cluster's go on.
        self.parent = os.getpid() if cluster == "local" else None
        try:
            self.executor = submitit.AutoExecutor(
                folder=folder, cluster=cluster, **{f"{cluster}_max_num_timeout": TIMEOUTS}
            )
        except RuntimeError as error:  # no such scheduler on this machine
            raise UserError(f"--launcher: {error}") from error
        try:
            self.executor.update_parameters(**{"timeout_min": 24 * 60, **parameters})
        except (AssertionError, NameError, TypeError, ValueError) as error:  # of any wrong value
            raise UserError(f"--cluster: {str(error).strip().splitlines()[0]}") from error
        self.together = self.executor.batch  # of Slurm, a job array
        self.running: dict[Path, Any] = {}

    def submit(self, run: Run, task: Path) -> None:
        """Queue a run, by a task from ``prepare``."""
        self.running[run.folder] = self.executor.submit(Job(), str(task), self.parent)

    def finished(self, run: Run) -> bool:
        """Whether a submitted run has ended, well or not."""
        return self.running[run.folder].done()

    def error(self, run: Run) -> str:
        """Last line of a failed run's exception."""
        return (str(self.running[run.folder].exception()).strip().splitlines() or ["failed"])[-1]

    def stop(self) -> None:
        """Cancel what is still queued or running."""
        for job in self.running.values():
            if not job.done():
                job.cancel(check=False)  # one may end just now, and the others go on otherwise


Launcher = Processes | Cluster
