"""What ``evaluate`` costs beside pyautoattack called directly, by turns.

    python tests/benchmarks/evaluation.py
    python tests/benchmarks/evaluation.py --config cifar10/small --set data=FOLDER ... --eps 8/255

Both attack the same images of the recipe's test data with AutoAttack's standard version, in
batches of the same size. Machines are noisy: what counts is the median of ratios in a round.
"""

import argparse
import statistics
import time

import pyautoattack
import torch

from mixacm_plugin import AutoAttack, evaluate, read_recipe
from mixacm_plugin.common.images import drawn
from mixacm_plugin.common.values import parse_number
from mixacm_plugin.loading.datasets import evaluation_dataset
from mixacm_plugin.loading.models import load_model


def main() -> None:
    """Print the seconds of both, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="quickstart/mixacm")
    parser.add_argument("--set", action="append", default=[], metavar="KEY.PATH=VALUE")
    parser.add_argument("--eps", type=parse_number, default=0.15)
    parser.add_argument("--n", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=50)
    parser.add_argument("--device", default="cpu", type=torch.device)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    recipe = read_recipe(given.config, given.set)
    dataset = evaluation_dataset(recipe)
    model = load_model(recipe, "teacher").to(given.device).eval()
    chosen = drawn(dataset, given.n, 0)
    images = torch.stack([image for image, _ in chosen]).to(given.device)
    labels = torch.tensor([label for _, label in chosen]).to(given.device)

    def direct() -> None:
        attack = pyautoattack.AutoAttack(
            model, norm="Linf", eps=given.eps, seed=0, device=given.device
        )
        attack.run_standard_evaluation(images, labels, batch_size=given.batch_size)

    def ours() -> None:
        batches = {"n": given.n, "batch_size": given.batch_size, "device": given.device}
        evaluate(model, dataset, AutoAttack(norm="Linf", eps=given.eps), **batches)

    times: dict[str, list[float]] = {"direct": [], "evaluate": []}
    for _ in range(given.rounds):
        for name, attack in (("direct", direct), ("evaluate", ours)):
            started = time.perf_counter()
            attack()
            times[name].append(time.perf_counter() - started)
    ratios = [own / other for own, other in zip(times["evaluate"], times["direct"], strict=True)]
    print(f"{torch.__version__}, {given.device}, {torch.get_num_threads()} threads, {given}")
    for name, spent in times.items():
        print(f"{name}: {', '.join(f'{seconds:.1f}' for seconds in spent)} s")
    print(f"ratio: median {statistics.median(ratios):.3f}, {min(ratios):.3f} to {max(ratios):.3f}")


if __name__ == "__main__":
    main()
