"""What an evaluation tells of its course."""

import io
import re

import pytest
import torch
from torch import nn

from mixacm_plugin import PGD, AutoAttack, Clean, Square, evaluate
from mixacm_plugin.evaluation import progress as telling
from mixacm_plugin.evaluation.attacks import autoattack
from mixacm_plugin.evaluation.progress import WIDTH, Progress
from recipes import Few


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def at_once(monkeypatch):
    """Lines are told whenever something has happened."""
    monkeypatch.setattr(telling, "ON_TERMINAL", 0)
    monkeypatch.setattr(telling, "IN_LOG", 0)


def test_a_line_names_part_images_and_time_left():
    attack = AutoAttack()
    progress = Progress(attack.short, attack.suite(), 1000, False)
    progress.loaded = 1000
    assert progress.line(0) == "AutoAttack: 1000 of 1000 images loaded"
    assert progress.few_words(0) == "AutoAttack: 1000/1000 loaded"
    progress.begin_part(1, 800)
    progress.begin_batch(250, 250)
    assert progress.line(0) == "AutoAttack: apgd-t (2 of 4): 250 of 800 images, 800 stand"
    progress.passes = 125 * attack.suite()[1].passes  # half of the batch
    progress.standing = 750
    expected = "AutoAttack: apgd-t (2 of 4): 375 of 800 images, 750 stand, about 11 min left"
    assert progress.line(30) == expected
    assert progress.few_words(30) == "AutoAttack 2/4: 375/800 images, 11 min left"
    assert len(expected) <= WIDTH


def test_images_that_are_not_loaded_yet_count_for_the_time_left():
    suite = PGD(steps=10).suite()
    progress = Progress("PGD-10", suite, 1000, False)
    progress.loaded = 500
    progress.begin_part(0, 500)
    progress.begin_batch(0, 250)
    progress.passes = 250 * suite[0].passes
    assert progress.line(10) == "PGD-10: 250 of 500 images, 500 stand, about 30 s left"


@pytest.mark.parametrize("attack", [Clean(), PGD(eps=0.1, steps=3), Square(eps=0.1, queries=20)])
def test_progress_changes_no_figure_and_goes_up_to_all_images(
    attack, model, at_once, monkeypatch, capsys
):
    plain = evaluate(model, Few("test", 20), attack, batch_size=8)
    assert capsys.readouterr().err == ""
    assert evaluate(model, Few("test", 20), attack, batch_size=8, progress=True) == plain
    lines = capsys.readouterr().err.splitlines()
    assert f"{attack.short}: 20 of 20 images loaded" in lines
    at = [int(re.search(r": (\d+) of \d+ images, ", line)[1]) for line in lines if "stand" in line]
    assert at == sorted(at)
    assert len(lines) > 5


def test_a_log_gets_a_line_every_ten_seconds_and_a_terminal_a_line_that_it_keeps(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(telling.time, "monotonic", lambda: now[0])
    log, terminal = io.StringIO(), Terminal()
    for stream in (log, terminal):
        now[0] = 0.0
        monkeypatch.setattr("sys.stderr", stream)
        progress = Progress("PGD-20", PGD().suite(), 9)
        progress.begin_part(0, 9)
        progress.begin_batch(0, 9)
        for _ in range(250):
            now[0] += 0.1
            progress.watch(nn.Identity(), (torch.rand(1, 1),), None)
        progress.close()
    assert len(log.getvalue().splitlines()) == 2
    shown = terminal.getvalue().split("\r")
    assert len(shown) > 100
    assert max(map(len, shown)) <= WIDTH
    assert shown[-2].strip() == shown[-1] == ""
    assert "\n" not in terminal.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize("version", autoattack.PASSES)
def test_the_passes_of_autoattacks_parts_are_what_they_take_at_most(version, model):
    """Robust images take nearly all of them: else the seconds left would be far off."""
    attack = AutoAttack(eps=1e-7, version=version)
    few = Few("test", 3)
    for part in attack.suite():
        progress = Progress("", [part], 3, False)
        counted = nn.Sequential(model)
        counted.register_forward_hook(progress.watch)
        progress.begin_part(0, 3)
        images = torch.stack([image for image, _ in few])
        labels = counted(images).argmax(1)
        progress.passes = 0
        part.perturb(counted, images, labels, 0)
        assert 0.9 < progress.passes / (3 * part.passes) < 1.1, part.name
