"""A project: what is in its files, from data, two models and a threat model."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from ..common.distributed import available_cpus
from ..common.errors import UserError
from ..common.values import parse_number
from ..parts.adversarial.threat_model import NORMS
from ..parts.models.hook_points import pair_points
from ..parts.models.hook_snippet import hook_lists, usual_weight
from .data import Data
from .methods import SCRATCH, Method, Pair, check_methods, method_of
from .models import Model
from .writing import rendered

SMALL = 64  # images of at most this size are trained on as CIFAR's are


@dataclass(frozen=True)
class Project:
    """What the templates fill in.

    Args:
        name: of its folder.
        data: to train on.
        teacher: with its checkpoint, or to be trained.
        student: to be trained.
        norm: of the threat model.
        eps: in pixels of [0, 1], as it is written.
        pairs: of activated blocks.
        methods: to compare with.
        weight: α_acm.
        why_weight: what is said behind it, in the recipe.
    """

    name: str
    data: Data
    teacher: Model
    student: Model
    norm: str
    eps: str
    pairs: Sequence[Pair]
    methods: Sequence[Method]
    weight: float
    why_weight: str = ""

    def ball(self, factor: float) -> str:
        """Return a multiple of ε, as a recipe writes it."""
        return multiple(self.eps, factor)

    @property
    def mixup(self) -> float:
        """Return mixup's parameter: that of CIFAR for small images, else of ImageNet."""
        return 1.0 if self.data.look.size <= SMALL else 0.2

    @property
    def batch(self) -> int:
        """Return the batch size: a power of two, for at least four steps an epoch if it can be."""
        largest = 128 if self.data.look.size <= SMALL else 64
        fitting = 2 ** max(0, (self.data.sizes["train"] // 4).bit_length() - 1)
        return max(min(largest, fitting), min(8, self.data.sizes["train"]))

    @property
    def test_batch(self) -> int:
        """Return the batch size of validation and test."""
        return min(250, self.data.sizes["val"])

    @property
    def workers(self) -> int:
        """Return the number of processes that load images."""
        few = self.data.sizes["train"] < 1000
        return 0 if few else min(8, available_cpus())

    @property
    def lr(self) -> float:
        """Return the learning rate: 0.1 for batches of 128, in proportion for others."""
        return round(0.1 * self.batch / 128, 4)

    @property
    def epochs(self) -> int:
        """Return the number of epochs."""
        return 100 if self.data.sizes["train"] <= 100_000 else 50

    @property
    def warm_epochs(self) -> int:
        """Return the number of epochs of a first stage."""
        return self.epochs // 5

    @property
    def weights_to_try(self) -> str:
        """Return values of α_acm around the first guess, for ``mixacm tune``."""
        return ",".join(f"{rounded(self.weight * factor):g}" for factor in (0.05, 0.25, 1, 4))

    @property
    def widths_differ(self) -> bool:
        """Return whether a pair needs a transform."""
        return any(teacher.channels != student.channels for _, teacher, student in self.pairs)

    @property
    def teacher_hooks(self) -> Sequence[str]:
        """Return the lines under the teacher's ``forward_hook``."""
        return hook_lists(teacher for _, teacher, _ in self.pairs)

    @property
    def student_hooks(self) -> Sequence[str]:
        """Return the lines under the student's ``forward_hook``."""
        return hook_lists(student for _, _, student in self.pairs)

    @property
    def teacher_modules(self) -> Sequence[str]:
        """Return the user's module that registers the teacher, if there is one."""
        return [self.teacher.module] if self.teacher.module else []

    @property
    def student_modules(self) -> Sequence[str]:
        """Return the user's module that registers the student, if there is one."""
        return [self.student.module] if self.student.module else []

    @property
    def modules(self) -> Sequence[str]:
        """Return the user's modules."""
        return sorted({*self.teacher_modules, *self.student_modules})

    def stubs(self) -> dict[str, str]:
        """Return the texts of the user's modules that aren't there yet, by their path."""
        models = self.student, self.teacher
        return {f"{model.module}.py": model.stub for model in models if model.stub}

    def files(self) -> dict[str, str]:
        """Return the text of each file, by its path in the project."""
        names = ["mixacm.yaml", "compare.yaml", "README.md"]
        names += [] if self.teacher.checkpoint else ["teacher.yaml"]
        names += [SCRATCH] if any(m.base == SCRATCH for m in self.methods) else []
        texts = {name: rendered(f"{name}.j2", p=self) for name in names}
        for method in self.methods:
            if method.pairs:
                texts[method.file] = rendered(f"{method.file}.j2", p=self, pairs=method.pairs)
        return texts


def plan(
    name: str,
    data: Data,
    teacher: Model,
    student: Model,
    *,
    norm: str = "Linf",
    eps: str | None = None,
    compare: Sequence[str] = ("kd",),
) -> tuple[Project, list[str]]:
    """Find the pairs of the two models, and fit the other methods to them.

    Args:
        name: of the project.
        data: to train on.
        teacher: robust, or to be made so.
        student: to be trained.
        norm: of the threat model.
        eps: likewise; 8/255 or 0.5 by default.
        compare: names of methods.

    Returns:
        The project, and lines that say what was left out.

    Raises:
        UserError: if a model has no hook points, or a method fits none.
    """
    check_methods(compare)
    eps = NORMS[norm] if eps is None else eps
    if norm == "Linf" and parse_number(eps) > 1:
        raise UserError(f"--eps: expected at most 1, in pixels of [0, 1]; found {eps}")
    shape = (3, data.look.size, data.look.size)
    try:
        pairs = {
            activated: pair_points(
                teacher.built, student.built, activated=activated, input_shape=shape
            )
            for activated in (True, False)
        }
    except (ValueError, RuntimeError) as error:
        raise UserError(f"no pairs of {teacher.key} and {student.key}: {error}") from error
    weight = usual_weight(pairs[True])
    project = Project(name, data, teacher, student, norm, eps, pairs[True], [], weight)
    methods, said = [], []
    for one in compare:
        method, lines = method_of(one, pairs, project.ball, norm, project.epochs)
        methods.append(method)
        said += lines
    return replace(project, methods=methods), said


def multiple(eps: str, factor: float) -> str:
    """Return a multiple of ε, written as it is.

    Example:
        >>> multiple("8/255", 0.25), multiple("0.15", 0.25)
        ('2/255', '0.0375')
    """
    over, slash, under = eps.partition("/")
    if slash:
        scaled = Fraction(over) * Fraction(factor)
        if scaled.denominator == 1:
            return f"{scaled}/{under}"
    return f"{parse_number(eps) * factor:.4g}"


def rounded(value: float) -> float:
    """Return the nearest of 1, 2 and 5 times a power of ten, in proportion.

    Example:
        >>> rounded(170), rounded(0.031), rounded(800)
        (200.0, 0.02, 1000.0)
    """
    power = 10.0 ** math.floor(math.log10(value))
    factor = min((1, 2, 5, 10), key=lambda factor: abs(math.log(value / (factor * power))))
    return float(f"{factor * power:.3g}")
