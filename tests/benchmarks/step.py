"""What a training step costs: MixACM's beside a bare loop's and other methods', by turns.

    python tests/benchmarks/step.py                          # WRN-16-2 taught by another, float32
    python tests/benchmarks/step.py --bf16 --rows KD MixACM  # some rows, in bfloat16, channels last
    python tests/benchmarks/step.py --bf16 --memory          # the peak memory of a process each

Images and weights are random; nothing is downloaded. Rows are those of a study, by default of
``studies/compare --scale one-machine``, torchdistill's attention transfer, MixACM's mappings, its
affine transform and its grids. Every row is a recipe, so that ``--set`` takes any other pair of
models. Machines are noisy: each round times every row once, and what counts is the median of a
row's ratios to the host's KD in the same round.
"""

import argparse
import logging
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path
from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F

from mixacm_plugin import Recipe, Training, read_recipe
from mixacm_plugin.common.memory import keep_freed_memory
from mixacm_plugin.preflight.stand_ins import use_batch_size, use_random_images, use_random_weights
from mixacm_plugin.reading.nodes import walk
from mixacm_plugin.studies.changes import sets
from mixacm_plugin.studies.study import read_study
from mixacm_plugin.training.metrics import record_terms

Step = Callable[[], None]
KD = "KD + mixup"  # the host's own box and loss
FLOAT32 = {False: "forward_batch_only", True: "forward_channels_last"}
ACM = "train.criterion.kwargs.sub_terms.acm.criterion.kwargs"
CHANNELS = {"block1": 16, "block2": 32, "block3": 64, "block4": 128}


def override_file(name: str, text: str) -> str:
    """Write an override file, which may add keys."""
    file = Path(tempfile.gettempdir()) / f"{name}.yaml"
    file.write_text(text, encoding="utf-8")
    return str(file)


def affine(channels: dict[str, int]) -> str:
    """Put a learnable transform of each block's own width on the teacher's side."""
    modules = ", ".join(
        f"&{name} !import_call {{key: mixacm_plugin.affine, init: {{args: [{n}, {n}]}}}}"
        for name, n in channels.items()
    )
    wrapper = f"{{key: FrozenTeacher, kwargs: {{modules: [{modules}]}}}}"
    lines = [
        f"train.teacher.auxiliary_model_wrapper: {wrapper}",
        "train.teacher.requires_grad: True",
    ]
    for name in channels:
        lines.append(f"{ACM}.pairs.{name}.transform: {{side: teacher, module: *{name}}}")
    return override_file("affine", "\n".join(lines))


def attention() -> str:
    """Put torchdistill's attention transfer on the stages of the study's models."""
    at = "train.criterion.kwargs.sub_terms.at.criterion.kwargs.at_pairs"
    stages = {"stage1": "layer2.0.conv1", "stage2": "layer3.0.conv1", "stage3": "avgpool"}
    lines = [
        f"train.{role}.forward_hook: {{input: [{', '.join(stages.values())}]}}"
        for role in ("teacher", "student")
    ]
    for name, path in stages.items():
        lines.append(f"{at}.{name}.teacher: {{path: {path}, io: input}}")
    return override_file("attention", "\n".join(lines))


def recipes(given: argparse.Namespace) -> Iterator[tuple[str, Recipe]]:
    """Yield each row's name and recipe."""
    study = read_study(given.study, given.scale)
    rows = {row.name: (row.base, sets(row.changes)) for row in study.rows}
    base, changes = rows["MixACM"]
    for mapping in ("abs_mean", "square_mean", "max"):
        rows[f"MixACM, {mapping}"] = (
            base,
            [*changes, override_file(mapping, f"{ACM}.mapping: {mapping}")],
        )
    rows["MixACM, affine"] = (base, [*changes, affine(CHANNELS)])
    for grid in (4, "full"):
        rows[f"MixACM, grid {grid}"] = (base, [*changes, f"{ACM}.grid={grid}"])
    rows["MixACM, grid full, every residual block"] = ("cifar10/small_positions", changes)
    rows["AT + mixup"] = (base, [*changes, "compare/at", attention()])
    for name, (path, overrides) in rows.items():
        if name != KD and given.rows and not any(part in name for part in given.rows):
            continue
        recipe = read_recipe(path, [*overrides, *given.set])
        use_random_images(recipe, given.input_shape)
        use_random_weights(recipe)
        use_batch_size(recipe, given.batch_size)
        for _, node in walk(recipe.root):
            if not given.bf16 and node.value == "forward_bf16":
                node.value = (
                    "forward_channels_last" if given.channels_last else "forward_batch_only"
                )
        yield name, recipe


def bare(recipe: Recipe, device: torch.device) -> Step:
    """Return a step of KD by hand: nothing hooked, no box."""
    training = Training(recipe, device, seed=0)
    teacher, student = (training.models[role] for role in ("teacher", "student"))
    images, targets, _ = next(iter(training.box.train_data_loader))
    images, targets = images.to(device), targets.to(device)
    forward: Any = training.box.student_forward_proc
    optimiser = torch.optim.SGD(student.parameters(), lr=0.1, momentum=0.9, nesterov=True)

    def step() -> None:
        with torch.no_grad():
            taught = forward(teacher, images)
        logits = forward(student, images)
        divergence = F.kl_div(
            (logits / 10).log_softmax(1), (taught / 10).softmax(1), reduction="batchmean"
        )
        loss = 0.05 * F.cross_entropy(logits, targets) + 95 * divergence
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    teacher.eval()
    student.train()
    return step


def boxed(recipe: Recipe, device: torch.device) -> Step:
    """Return a step as this package trains: the host's box, on a batch that is loaded already."""
    box = Training(recipe, device, seed=0).box
    # The host keeps a recipe's processes on the box's class, where the next box replaces them.
    box.post_forward_process = MethodType(type(box).post_forward_process, box)
    box.pre_epoch_process(epoch=0)
    images, targets, extra = next(iter(box.train_data_loader))
    images, targets = images.to(device), targets.to(device)

    def step() -> None:
        with record_terms(box.criterion):
            box.post_forward_process(loss=box.forward_process(images, targets, extra))

    return step


def seconds(step: Step, device: torch.device) -> float:
    """Time a step."""
    if device.type == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        step()
        end.record()
        torch.cuda.synchronize(device)
        return float(start.elapsed_time(end)) / 1000
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


def peak(name: str, given: argparse.Namespace) -> float:
    """Return the peak memory of a process that builds and trains a row for some steps, in MiB."""
    logging.disable(logging.WARNING)
    device = given.device
    if device.type == "cuda":
        torch.cuda.set_device(device)
    step = boxed(dict(recipes(given))[name], device)
    for _ in range(3):
        step()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)  # what the trial step took isn't a step's
        step()
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def print_memory(given: argparse.Namespace) -> None:
    """Print a table of peak memory."""
    print("| row | peak memory, MiB |\n|---|---:|")
    for name, _ in recipes(given):
        with get_context("spawn").Pool(1) as pool:
            print(f"| {name} | {pool.apply(peak, (name, given)):.0f} |")


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--study", default="studies/compare")
    parser.add_argument("--scale", default="one-machine")
    parser.add_argument("--rows", nargs="+", help="parts of names; bare and KD always run")
    parser.add_argument("--set", action="append", default=[], metavar="KEY.PATH=VALUE")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--input-shape", type=int, nargs=3, default=(3, 32, 32))
    parser.add_argument("--bf16", action="store_true", help="bfloat16 autocast, channels last")
    parser.add_argument("--channels-last", action="store_true", help="in float32")
    parser.add_argument("--device", default="cpu", type=torch.device)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--memory", action="store_true", help="peak memory in place of times")
    given = parser.parse_args()
    if given.rounds < 2:
        parser.error("--rounds: quartiles need at least 2")
    if given.device.type == "cuda":
        torch.cuda.set_device(given.device)  # whose stream events are of
        torch.backends.cudnn.benchmark = True  # as the command sets it
    logging.disable(logging.WARNING)
    keep_freed_memory()  # as the package's commands do
    if given.memory:
        print_memory(given)
        return
    steps: dict[str, Step] = {}
    for name, recipe in recipes(given):
        if name == KD:
            steps["bare"] = bare(recipe, given.device)
        steps[name] = boxed(recipe, given.device)
    times: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(given.rounds + 2):
        for name, step in steps.items():
            spent = seconds(step, given.device)
            if number >= 2:  # the first warm up
                times[name].append(spent)
    print(f"{torch.__version__}, {given.device}, {torch.get_num_threads()} threads, {given}")
    print("| row | ms | ratio to KD: median | quartiles |\n|---|---:|---:|---|")
    for name, spent in times.items():
        ratios = [one / other for one, other in zip(spent, times[KD], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        milliseconds = 1000 * statistics.median(spent)
        print(f"| {name} | {milliseconds:.0f} | {middle:.3f} | {low:.3f} to {high:.3f} |")


if __name__ == "__main__":
    main()
