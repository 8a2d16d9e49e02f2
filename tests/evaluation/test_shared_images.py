"""Processes that share the images of an evaluation."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from mixacm_plugin import Clean, dm_wide_resnet, evaluate
from mixacm_plugin.common.distributed import init_process_group
from mixacm_plugin.evaluation.attacks.base import Attacked, BallAttack, still_right
from processes import PROCESSES, run_processes
from recipes import CPU, Few, run, write

N = 31  # an odd number


@dataclass(frozen=True)
class Sign(BallAttack):
    """One step by the sign of the gradient, which draws nothing."""

    name = "sign"
    title = short = "sign"

    def perturb(self, model, images, labels, seed):
        _, eps = self.ball
        own = images.clone().requires_grad_(True)
        loss = torch.nn.functional.cross_entropy(model(own), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, own)
        moved = (images + eps * gradient.sign()).clamp(0, 1)
        return Attacked(moved, still_right(model(moved), labels), {"a doubt": len(images)})


def network():
    torch.manual_seed(1)
    return dm_wide_resnet(10, 1, 10)


def figures(distributed):
    return [
        evaluate(
            network(),
            Few("test", 50),
            attack,
            n=N,
            batch_size=4,
            distributed=distributed,
            state=f"{attack.name}.state" if distributed else None,
        ).to_json()
        for attack in (Clean(), Sign(eps=0.05))
    ]


def share(rank, folder):
    os.chdir(folder)
    init_process_group(CPU, f"file://{folder}/group")
    Path(f"{rank}.json").write_text(json.dumps(figures(distributed=True)))


@pytest.mark.slow
def test_processes_share_the_images_and_count_the_remainder_once(tmp_path):
    run_processes(share, tmp_path)
    expected = json.loads(json.dumps(figures(distributed=False)))
    for rank in range(PROCESSES):
        assert json.loads((tmp_path / f"{rank}.json").read_text()) == expected
    assert expected[0]["n"] == N
    assert 0 < expected[1]["correct"] < expected[0]["correct"]
    assert expected[1]["warnings"] == [
        f"a doubt ({expected[0]['correct']} of {expected[0]['correct']} images)"
    ]
    assert {file.name for file in tmp_path.glob("*.state*")} == {
        *("clean.state", "clean.state.1", "sign.state", "sign.state.1")
    }


def command(rank, folder):
    os.chdir(folder)
    argv = ("--config", "recipe.yaml", "--device", "cpu", "--model", "teacher")
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=Path("port").read_text())
    assert run("main", "evaluate", *argv, "--attack", "clean", "--json", "out.json") == 0


@pytest.mark.slow
def test_the_command_shares_them_under_torchrun(tmp_path, monkeypatch, free_port):
    monkeypatch.chdir(tmp_path)
    write()
    Path("port").write_text(str(free_port))
    argv = ("--config", "recipe.yaml", "--device", "cpu", "--model", "teacher")
    assert run("main", "evaluate", *argv, "--attack", "clean", "--json", "alone.json") == 0
    run_processes(command, tmp_path)
    assert Path("out.json").read_text() == Path("alone.json").read_text()
