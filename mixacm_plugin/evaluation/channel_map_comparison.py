"""Channel maps of several models held against the teacher's: where the models come from."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..common.errors import RecipeError
from ..common.images import count
from ..loading.datasets import evaluation_dataset
from ..loading.models import load_model
from ..reading.library import recipe_names
from ..reading.read import read_recipe
from ..reading.recipe import Recipe
from ..reading.sections import model_sections
from .channel_map_distances import TEACHER, Block, Distance, blocks_of, distances, mean_channel_maps

NAMES = "|".join([*map(re.escape, recipe_names()), r".+?\.ya?ml"])
RECIPE = re.compile(rf"(?P<recipe>{NAMES})(:(?P<role>teacher|student))?(:(?P<ckpt>.+))?")


@dataclass(frozen=True)
class Source:
    """Where a model comes from: a recipe, its role there, and a checkpoint if not the recipe's."""

    recipe: Recipe
    role: str
    checkpoint: str | None = None


def parse_source(text: str, recipe: Recipe) -> tuple[str, Source]:
    """Read a model's name and where it comes from.

    Args:
        text: ``teacher`` or ``student``, of ``recipe``; ``NAME=CHECKPOINT``, weights for the
            student of ``recipe`` (for its teacher, if that is the name); or
            ``NAME=RECIPE[:ROLE[:CHECKPOINT]]``, a model of another recipe, by default its student
            with the checkpoint that the recipe names.
        recipe: the one that names data and hook points.

    Raises:
        RecipeError: if the text is none of these, or the other recipe can't be read.
    """
    name, separator, value = text.partition("=")
    role = TEACHER if name == TEACHER else "student"
    if not separator:
        if name not in ("teacher", "student"):
            raise recipe.error(
                f"--models {text}", "expected teacher, student, NAME=CHECKPOINT or NAME=RECIPE"
            )
        return name, Source(recipe, role)
    if not name or not value:
        raise recipe.error(f"--models {text}", "expected NAME=CHECKPOINT or NAME=RECIPE")
    other = RECIPE.fullmatch(value)
    if other is None:
        return name, Source(recipe, role, value)
    return name, Source(read_recipe(other["recipe"]), other["role"] or "student", other["ckpt"])


@dataclass(frozen=True)
class Comparison:
    """Mean channel maps of several models, and each one's distances to the teacher's."""

    maps: Mapping[str, Mapping[str, Tensor]]
    distances: Sequence[Distance]
    blocks: Sequence[Block]
    caption: str


def compare(
    recipe: Recipe,
    sources: Mapping[str, Source],
    *,
    blocks: Sequence[str] = (),
    n: int | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Comparison:
    """Compare models' mean channel maps with the teacher's, on a recipe's test images.

    Args:
        recipe: names the images and, in its ACMLoss, the hook points.
        sources: a model's name to where it comes from; ``teacher`` and others.
        blocks: hook points for all models, see ``blocks_of``; by default the recipe's.
        n: number of images; by default 500, or all where there are fewer.
        seed: of their choice.
        device: where to run.

    Raises:
        RecipeError: if a model, the images or a hook point can't be had.
    """
    if TEACHER not in sources:
        raise recipe.error("--models", f"expected one named {TEACHER}, to compare the others with")
    if len(sources) == 1:
        raise recipe.error("--models", "expected a model besides the teacher")
    hooked, mapping = blocks_of(recipe, blocks)
    dataset = evaluation_dataset(recipe)
    n = min(500, count(dataset)) if n is None else n
    maps = {}
    for name, source in sources.items():
        named_by = f"--models {name}"
        model = load_model(source.recipe, source.role, source.checkpoint, named_by)
        # A recipe that trains the robust teacher has it as its student.
        role = TEACHER if name == TEACHER else source.role
        try:
            maps[name] = mean_channel_maps(
                model, dataset, hooked, role=role, mapping=mapping, n=n, seed=seed, device=device
            )
        except (ValueError, TypeError, RuntimeError) as error:
            raise recipe.error(named_by, str(error)) from error
    caption = (
        f"Normalised channel maps ({mapping}), mean over n = {n} test images, seed {seed}. "
        "Against the teacher: ℓ2 distance of the sorted curves; channel by channel, unsorted, "
        "cosine similarity and ℓ2 distance."
    )
    return Comparison(maps, distances(maps, hooked), hooked, caption)


def compare_students(
    students: Iterable[tuple[str, str, Sequence[str], str]], n: int | None = None
) -> Comparison:
    """Compare trained students' channel maps with their teacher's.

    The teacher, the images and the hook points are those of the first recipe that has a teacher
    and an ACMLoss.

    Args:
        students: name, recipe, overrides of it and checkpoint of each.
        n: number of test images; by default 500, or all where there are fewer.

    Raises:
        RecipeError: if a recipe or a checkpoint can't be used.
        ValueError: if no recipe has a teacher and an ACMLoss.
    """
    sources = {
        f"{name} (student)" if name == TEACHER else name: Source(
            read_recipe(recipe, overrides), "student", checkpoint
        )
        for name, recipe, overrides, checkpoint in students
    }
    recipe = next((s.recipe for s in sources.values() if _has_pairs(s.recipe)), None)
    if recipe is None:
        raise ValueError("no finished row's recipe has a teacher and an ACMLoss")
    return compare(recipe, {**sources, TEACHER: Source(recipe, TEACHER)}, n=n)


def _has_pairs(recipe: Recipe) -> bool:
    try:
        blocks_of(recipe)
    except RecipeError:
        return False
    return TEACHER in model_sections({"models": recipe.build("models")})
