"""Train and evaluate for long, and print how what the process holds has grown: in an empty folder.

In the second half only, of a hundred epochs and of a thousand evaluations: before, caches fill.
"""

import json
import os
from pathlib import Path

import torch

from mixacm_plugin import PGD, Training, evaluate
from recipes import CPU, Few, mixacm, recipe

EPOCHS, EVALUATIONS = 100, 1000
FEWER = "datasets.few/{0}=!import_call {{key: recipes.Few, init: {{kwargs: {{split: {0}, n: 8}}}}}}"


def held() -> tuple[float, int]:
    """Return the resident memory in MiB, and the number of open files."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20, len(os.listdir("/proc/self/fd"))


def growth(seen: list[tuple[float, int]]) -> dict[str, float]:
    (memory, files), (memory_at_end, files_at_end) = seen[len(seen) // 2], seen[-1]
    return {"memory": memory_at_end - memory, "files": files_at_end - files}


def main() -> None:
    torch.set_num_threads(1)
    text = mixacm(kind="adaptive_max_pool").replace("epochs: 2", f"epochs: {EPOCHS}")
    training = Training(recipe(text, *(FEWER.format(split) for split in ("train", "val"))), CPU, 0)
    epochs, evaluations = [], []

    def after_step() -> int:
        epochs.append(held())
        return 0

    training.run(asked_to_stop=after_step)
    data, attack = Few("test", 4), PGD(eps="8/255", steps=1, restarts=1)
    for _ in range(EVALUATIONS):
        evaluate(training.models["student"], data, attack)
        evaluations.append(held())
    print(json.dumps({"epochs": growth(epochs), "evaluations": growth(evaluations)}))


if __name__ == "__main__":
    main()
