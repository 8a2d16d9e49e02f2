"""Images/s of one process, of two that share a training, and of two that do not, by turns.

    python tests/benchmarks/scaling.py

Each process has one thread and the recipe's batch; images and weights are random. What two that
share a training lose against two that don't is the exchange of gradients. Each trains an epoch.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from mixacm_plugin import read_recipe
from mixacm_plugin.preflight import stand_ins

TRAIN = ["-m", "mixacm_plugin", "train", "--config", "recipe.yaml", "--seed", "0", "--overwrite"]
TRAIN += ["--device", "cpu", "-student_only", "--set", "train.num_epochs=1"]
TOGETHER = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
MODES = {"one": [TRAIN], "two together": [TOGETHER + TRAIN], "two apart": [TRAIN, TRAIN]}


def images_per_second(commands: list[list[str]], recipe: str) -> float:
    """Run commands at the same time, each in a folder of its own; return the sum of their rates."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as scratch:
        running = []
        for number, command in enumerate(commands):
            folder = Path(scratch, str(number))
            folder.mkdir()
            (folder / "recipe.yaml").write_text(recipe, encoding="utf-8")
            with (folder / "log.txt").open("w") as log:
                options = {"cwd": folder, "env": environment, "stdout": log, "stderr": log}
                running.append((folder, subprocess.Popen([sys.executable, *command], **options)))
        rate = 0.0
        for folder, process in running:
            if process.wait():
                sys.exit((folder / "log.txt").read_text())
            (metrics,) = folder.rglob("metrics.jsonl")
            rate += json.loads(metrics.read_text())["images_per_second"]
    return rate


def main() -> None:
    """Print each mode's images/s, and their ratios to one process's."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="cifar10/small")
    parser.add_argument("--set", action="append", default=[], metavar="KEY.PATH=VALUE")
    parser.add_argument("--input-shape", type=int, nargs=3, default=(3, 32, 32))
    parser.add_argument("--images", type=int, default=3840, help="of an epoch")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    recipe = read_recipe(given.config, given.set)
    stand_ins.IMAGES = given.images
    stand_ins.use_random_images(recipe, given.input_shape)
    stand_ins.use_random_weights(recipe)
    rates: dict[str, list[float]] = {name: [] for name in MODES}
    for _ in range(given.rounds):
        for name, commands in MODES.items():
            rates[name].append(images_per_second(commands, recipe.text()))
    print(given)
    print(
        "| processes | images/s | ratio to one: median | smallest to largest |\n|---|---:|---:|---|"
    )
    for name, found in rates.items():
        ratios = [rate / one for rate, one in zip(found, rates["one"], strict=True)]
        middle = f"{statistics.median(found):.0f} | {statistics.median(ratios):.2f}"
        print(f"| {name} | {middle} | {min(ratios):.2f} to {max(ratios):.2f} |")


if __name__ == "__main__":
    main()
