"""``mixacm new``."""

import argparse
import contextlib
import shlex
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ..common.distributed import choose_device
from ..common.errors import UserError
from ..common.values import written_positive
from ..parts.adversarial.threat_model import NORMS
from ..preflight.inspection import Inspection, inspect_recipe
from ..projects.data import Data, find_data
from ..projects.methods import METHODS, check_methods
from ..projects.models import find_model
from ..projects.modules import files_to_copy
from ..projects.project import Project, plan
from ..projects.weight import measured_weight
from ..projects.writing import copy, refuse_existing, write
from ..reading.read import read_recipe
from .check import report
from .common import add_device, argument_type, positive, set_up_log
from .hooks import mapping

EPILOG = f"""\
FOLDER has train/ and test/ (or val/) with a folder a class in each, or is a folder of class
folders, of which a fifth is held out for the test. NAME is a class of torchvision.datasets.
MODEL is the key of a registered model or of torchvision's, timm:NAME, or MODULE.NAME of a module of
your own; a stub is written where there is none.

methods: {", ".join(METHODS)}

examples:
  mixacm new shapes --data images --student timm:resnet10t --teacher resnet18
  mixacm new shapes --data images --student my_models.Net --teacher resnet50:robust.pt --eps 4/255
  mixacm new cifar --data CIFAR10 --student resnet18 --teacher resnet50 --compare kd at pgd7_at
"""
ASKED = {
    "data": "a folder of images, or the name of a data set of torchvision",
    "student": "the student, such as resnet18 or timm:resnet10t",
    "teacher": "the teacher, likewise; with :FILE its robust checkpoint",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the folder, the data, the models and the threat model."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = (
        "Write recipes, a study and a README for your own data and models, as they run."
    )
    parser.epilog = EPILOG
    parser.add_argument("folder", metavar="DIR", help="folder to write to")
    parser.add_argument("--data", metavar="FOLDER|NAME[:FOLDER]", help=ASKED["data"])
    parser.add_argument("--student", metavar="MODEL[:FILE]", help=ASKED["student"])
    parser.add_argument("--teacher", metavar="MODEL[:FILE]", help=ASKED["teacher"])
    for name in ("student", "teacher"):
        parser.add_argument(
            f"--{name}-kwargs",
            type=argument_type(mapping),
            metavar="YAML",
            help=f"the {name}'s arguments, as in a recipe: '{{pretrained: True}}'",
        )
    parser.add_argument("--norm", choices=list(NORMS), default="Linf", help="default: Linf")
    parser.add_argument(
        "--eps",
        type=argument_type(written_positive),
        help="ε in pixels of [0, 1] (default: 8/255, of L2 0.5)",
    )
    parser.add_argument(
        "--compare",
        nargs="+",
        default=["kd"],
        metavar="METHOD",
        help="other methods of the study (default: kd)",
    )
    parser.add_argument(
        "--image-size", type=positive, metavar="N", help="height and width (default: the images')"
    )
    add_device(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Find out what isn't said, write the files, and check the recipe."""
    set_up_log(None)
    check_methods(args.compare)
    folder = Path(args.folder).expanduser()
    refuse_existing(folder, ["mixacm.yaml", "teacher.yaml", "compare.yaml", "README.md"])
    given = {name: getattr(args, name) or _asked(name) for name in ASKED}
    data = find_data(given["data"], args.image_size)
    print(_described(data))
    student = find_model("--student", given["student"], args.student_kwargs, data, folder)
    teacher = find_model("--teacher", given["teacher"], args.teacher_kwargs, data, folder)
    project, left_out = plan(
        folder.resolve().name,
        data,
        teacher,
        student,
        norm=args.norm,
        eps=args.eps,
        compare=args.compare,
    )
    print(*_accuracies(project), *left_out, *_written(project, folder), sep="\n")
    found = _weighed(project, folder, args.device)
    print("", f"{folder / 'mixacm.yaml'}:", *report(found), "", _next(project, folder), sep="\n")


def _asked(name: str) -> str:
    """Ask on a terminal for what a flag doesn't say."""
    answer = ""
    if sys.stdin.isatty():
        with contextlib.suppress(EOFError):  # Ctrl-D
            answer = input(f"--{name}, {ASKED[name]}: ").strip()
    if not answer:
        raise UserError(f"--{name}: missing; expected {ASKED[name]}")
    return answer


def _described(data: Data) -> str:
    size, sizes, unread = data.look.size, data.sizes, data.unread()
    told = (
        f"{data.what}: {len(data.classes)} classes, {size}×{size}, {sizes['train']:,} images to "
        f"train on, {sizes['val']:,} to validate, {sizes['test']:,} to test"
    )
    if unread:
        told += (
            f"\nleft out: {len(unread):,} of a kind that ImageFolder doesn't read, such as "
            f"{unread[0]}; convert them, or leave them out"
        )
    return told


def _accuracies(project: Project) -> Iterator[str]:
    for flag, model in (("--student", project.student), ("--teacher", project.teacher)):
        if model.accuracy is not None:
            yield f"{flag}: {model.accuracy:.1f} % of some validation images right"


def _written(project: Project, folder: Path) -> list[str]:
    """Write all files at once, so that what is refused leaves none; say which."""
    files, stubs = project.files(), project.stubs()
    copies = files_to_copy(folder) if project.modules else {}
    refuse_existing(folder, files)
    write(folder, files | stubs)
    copy(folder, copies)
    return [
        *(f"{folder / name}: a stub; put your model there" for name in stubs),
        *(f"{folder / name}: a copy of {file}" for name, file in copies.items()),
        *(str(folder / name) for name in files),
    ]


def _weighed(project: Project, folder: Path, device: str | None) -> Inspection:
    """Check the recipe and, where the teacher is there, measure α_acm and write it."""

    def check() -> Inspection:
        recipe = read_recipe(folder / "mixacm.yaml")
        untrained = not project.teacher.checkpoint
        return inspect_recipe(recipe, choose_device(device), random_weights=untrained, seconds=1.0)

    found = check()
    weight = measured_weight(found, project)
    if weight is None:
        return found
    why = ": its gradient is about ten times KD's at the start"
    write(folder, replace(project, weight=weight, why_weight=why).files())
    return check()


def _next(project: Project, folder: Path) -> str:
    first = "mixacm" if project.teacher.checkpoint else "teacher"
    train = f"mixacm train --config {first}.yaml --seed 0"
    return f"next: cd {shlex.quote(str(folder))} && {train} (README.md has all)"
