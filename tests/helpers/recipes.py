"""A MixACM recipe small enough to train in a fraction of a second, and variations of it."""

import logging
import re
import textwrap
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset, Sampler, Subset

from mixacm_plugin import Digits, Recipe, cli, read_recipe
from weights import checkpoint

CPU = torch.device("cpu")
DATA = """\
dependencies:
  - name: mixacm_plugin

datasets:
  few/train: !import_call {key: recipes.Few, init: {kwargs: {split: train, n: 32}}}
  few/val: !import_call {key: recipes.Few, init: {kwargs: {split: val, n: 40}}}
  few/test: !import_call {key: recipes.Few, init: {kwargs: {split: test, n: 50}}}

"""
LOADERS = """\
  num_epochs: 2
  log_freq: 100
  train_data_loader:
    dataset_id: few/train
    sampler: {class_or_func: !import_get {key: torch.utils.data.RandomSampler}}
    collate_fn: !import_call {key: mixacm_plugin.mixup_collate, init: {kwargs: {alpha: 1.0, num_classes: 10}}}
    kwargs: {batch_size: 16}
  val_data_loader:
    dataset_id: few/val
    sampler: &in_order {class_or_func: !import_get {key: torch.utils.data.SequentialSampler}}
    kwargs: {batch_size: 25}
  optimizer:
    key: SGD
    kwargs: {lr: 0.05, momentum: 0.9}
  scheduler:
    key: CosineAnnealingLR
    kwargs: {T_max: 2}
"""  # noqa: E501
TEST = """\
test:
  test_data_loader:
    dataset_id: few/test
    sampler: *in_order
    kwargs: {batch_size: 25}
"""
MIXACM = """\
  pre_epoch_process: keep_teacher_in_eval
  teacher:
    forward_proc: forward_batch_only
    TEACHER
    forward_hook: {output: [layer.1.block.0.relu_0, relu]}
  student:
    forward_proc: forward_batch_only
    forward_hook: {output: [layer.1.block.0.relu_0, relu]}
  criterion:
    key: WeightedSumLoss
    kwargs:
      sub_terms:
        kd:
          criterion:
            key: KDLoss
            kwargs:
              student_module_path: '.'
              student_module_io: output
              teacher_module_path: '.'
              teacher_module_io: output
              temperature: 10
              alpha: 0.05
              beta: 0.95
          weight: 1.0
        acm:
          criterion:
            key: ACMLoss
            kwargs:
              pairs:
                middle:
                  teacher: {path: layer.1.block.0.relu_0, io: output}
                  student: {path: layer.1.block.0.relu_0, io: output}
                  transform: MIDDLE
                last:
                  teacher: {path: relu, io: output}
                  student: {path: relu, io: output}
                  transform: LAST
          weight: 20.0
"""
FROZEN_TEACHER = """\
auxiliary_model_wrapper:
  key: FrozenTeacher
  kwargs:
    transforms_ckpt: out/transforms.pt
    modules:
"""
CROSS_ENTROPY = """\
  criterion:
    key: WeightedSumLoss
    kwargs:
      sub_terms:
        ce:
          criterion: {key: CrossEntropyLoss, kwargs: {}}
          criterion_wrapper:
            key: SimpleLossWrapper
            kwargs:
              input: {is_from_teacher: False, module_path: '.', io: output}
              target: {uses_label: True}
          weight: 1.0
"""
KINDS = ("adaptive_max_pool", "adaptive_avg_pool", "affine")


@cache
def digits(split: str) -> Digits:
    return Digits(split)


class Few(Subset):
    """The first digits of a split."""

    def __init__(self, split: str, n: int):
        super().__init__(digits(split), range(n))


class FirstDigits(Digits):
    """The first digits of a split, as a dataset of its own kind."""

    def __init__(self, split: str, n: int) -> None:
        super().__init__(split)
        self.images, self.targets = self.images[:n], self.targets[:n]


class Normalised(FirstDigits):
    """Digits around zero, in three channels."""

    def __getitem__(self, index):
        image, label = super().__getitem__(index)
        return image.repeat(3, 1, 1) * 2 - 1, label


class OneClass(FirstDigits):
    """Digits that are all of one class."""

    def __init__(self, split: str, n: int, label: int = 0) -> None:
        super().__init__(split, n)
        self.label = label

    def __getitem__(self, index):
        return super().__getitem__(index)[0], self.label


class Transformed(Dataset):
    """Digits with a transform of their own, as the datasets of torchvision have."""

    def __init__(self, split: str, n: int) -> None:
        self.digits, self.transform = Few(split, n), torch.Tensor.clone

    def __len__(self):
        return len(self.digits)

    def __getitem__(self, index):
        image, label = self.digits[index]
        return (self.transform(image) if self.transform else image), label


class EverySecond(Sampler):
    """Every second index of a dataset, from the first or the second on."""

    def __init__(self, dataset: Dataset, first: int) -> None:
        self.indices = range(first, len(dataset), 2)

    def __len__(self):
        return len(self.indices)

    def __iter__(self):
        return iter(self.indices)


class OutOfReach:
    """A dataset that isn't on this machine."""

    def __init__(self):
        raise FileNotFoundError("no such folder: /data/digits")


def _model(role: str, width: int, ckpt: str) -> str:
    kwargs = f"{{depth: 10, width: {width}, num_classes: 10}}"
    return f"  {role}:\n    key: dm_wide_resnet\n    kwargs: {kwargs}\n    {ckpt}\n"


def mixacm(
    teacher_width: int = 1,
    student_width: int = 1,
    kind: str | None = None,
    side: str = "teacher",
    frozen_teacher: bool = False,
) -> str:
    """MixACM of two small WideResNets, in two pairs, with a transform where a kind is given."""
    teacher, transforms = "requires_grad: False", ("null", "null")
    if kind == "affine":
        widths = (teacher_width, student_width)
        if side == "student":
            widths = widths[::-1]
        modules = [
            f"- &{name} !import_call {{key: mixacm_plugin.affine, init: {{args: "
            f"[{count * widths[0]}, {count * widths[1]}]}}}}\n"
            for name, count in (("middle", 16), ("last", 64))
        ]
        teacher = FROZEN_TEACHER + textwrap.indent("".join(modules), " " * 6)
        transforms = tuple(f"{{side: {side}, module: *{name}}}" for name in ("middle", "last"))
    elif kind is not None:
        transforms = (f"{{side: {side}, kind: {kind}}}",) * 2
    elif frozen_teacher:
        teacher = "auxiliary_model_wrapper: {key: FrozenTeacher}"
    train = MIXACM.replace("TEACHER", textwrap.indent(teacher, " " * 4).strip())
    train = train.replace("MIDDLE", transforms[0]).replace("LAST", transforms[1])
    models = (
        "models:\n"
        + _model("teacher_model", teacher_width, "src_ckpt: teacher.pt\n    expected_accuracy: 0")
        + _model("student_model", student_width, "dst_ckpt: out/student.pt")
    )
    return f"{DATA}{models}\ntrain:\n{LOADERS}{train}\n{TEST}"


def scratch(forward_proc: str = "forward_batch_only", more: str = "") -> str:
    """Training without a teacher, and with more lines of its stage."""
    models = "models:\n" + _model("model", 1, "dst_ckpt: out/student.pt")
    forward = f"  model:\n    forward_proc: {forward_proc}\n{more}"
    return f"{DATA}{models}\ntrain:\n{LOADERS}{forward}{CROSS_ENTROPY}\n{TEST}"


def two_stages(text: str) -> str:
    """The training of a recipe, twice in a row."""
    head, _, rest = text.partition("train:\n")
    train, _, test = rest.partition("test:\n")
    stage = textwrap.indent(train.rstrip(), "  ")
    return f"{head}train:\n  stage1: &stage\n{stage}\n  stage2: *stage\ntest:\n{test}"


def edit(old: str, new: str, text: str | None = None) -> str:
    """A recipe (by default the plain one) with the first ``old`` replaced."""
    text = text or mixacm()
    assert old in text
    return text.replace(old, new, 1)


def write(text: str | None = None) -> str:
    """Write a recipe (by default the plain one) and its teacher's checkpoint to this folder."""
    text = mixacm() if text is None else text
    Path("recipe.yaml").write_text(text)
    width = re.search(r"width: (\d)", text)  # the first model is the teacher
    checkpoint("teacher.pt", 100, int(width[1]) if width else 1)
    return "recipe.yaml"


def write_wrong(wrong: str | tuple[str, str]) -> list[str]:
    """Write what a table has wrong, a recipe, an override or both; return the command's flags."""
    if isinstance(wrong, str) and "\n" in wrong:
        write(wrong)
        return []
    text, override = wrong if isinstance(wrong, tuple) else (None, wrong)
    write(text)
    return ["--set", override]


def recipe(text: str | None = None, *overrides: str) -> Recipe:
    """Write the plain recipe, or another one, and read it."""
    return read_recipe(write(text), overrides)


def run(command: str, *argv: str) -> int:
    """Run the command ``torchdistill`` or ``mixacm`` (``main``); leave logging as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        return getattr(cli, command)(argv)
    finally:
        for handler in set(root.handlers) - set(handlers):
            handler.close()
        root.handlers, root.level = handlers, level


def soft(labels: Tensor) -> Tensor:
    """Labels of the digits, each with some of the next digit's."""
    return 0.7 * F.one_hot(labels, 10) + 0.3 * F.one_hot((labels + 1) % 10, 10)


def loader_accuracy(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> float:
    """Accuracy by a plain loop."""
    model.eval()
    with torch.no_grad():
        right = [(model(images).argmax(1) == labels).float() for images, labels in batches]
    return torch.cat(right).mean().item()
