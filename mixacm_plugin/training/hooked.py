"""What a stage hooks, looked at in a pass of the plain models: calls, and where channels are."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import product
from typing import Any

from torch import Tensor, nn

from ..parts.acm.pairs import IO, LAST, SIDES, PairEnd, end_of
from ..parts.acm.positions import FULL, LAYOUTS, Size, size_of
from ..parts.models.hooks.ends import Hooked, Passes, hooked_ends, passes_over
from ..reading import sections
from ..reading.recipe import Recipe

Pair = tuple[str, Mapping[str, Any], Any]  # key path, arguments and grid
SHAPES = {**{name: layout.shape for name, layout in LAYOUTS.items()}, "ncl": "(N, C, L)"}


def check_hooked(
    recipe: Recipe,
    config: Mapping[str, Any],
    path: str,
    models: Mapping[str, nn.Module],
    images: Tensor,
) -> list[str]:
    """Check what a stage hooks, and what its ``ACMLoss`` takes for channels.

    Args:
        recipe: names the file in errors.
        config: the built recipe.
        path: of the stage.
        models: the plain model of each role.
        images: ``(N, C, H, W)``, of the training data.

    Returns:
        A warning for each module that is called more than once, for each layout that can't be
        told, for several rows of an image, and for tokens that don't seem to be positions, or seem
        to be.

    Raises:
        RecipeError: if a pair of ``ACMLoss`` has another layout than its module, an activation
            that doesn't begin with the images, a module that is called more than once and doesn't
            say ``call: last``, or cells of tokens of which nothing tells in which rectangle they
            lie, or of windows beside something else.
    """
    stage = sections.get(config, path)
    names = sections.stage_sections(config)
    passes = {
        role: _look(role, models[role], sections.get(stage, f"{name}.forward_hook") or {}, images)
        for role, name in names.items()
        if not sections.is_redesigned(stage.get(name, {}))
    }
    pairs = list(_pairs(stage, path))
    warnings: list[str] = []
    paired = set()
    for (where, pair, _), role in product(pairs, SIDES):
        key, end = f"{where}.{role}", end_of(pair, role)
        hooked = passes[role].plain.get((end.path, end.io)) if role in passes else None
        if hooked is not None:
            paired.add((role, end.path, end.io))
            _check_calls(recipe, key, end, pair, hooked)
            warnings += _layout(recipe, key, end, hooked, passes[role])
    with_cells = [pair for pair in pairs if pair[-1] != 1]
    _check_windows(recipe, with_cells, passes)
    if images.ndim == 4 and images.shape[2] != images.shape[3]:
        _check_rectangles(recipe, with_cells, passes)
    for role, seen in passes.items():
        for (module_path, io), hooked in seen.plain.items():
            if hooked.calls > 1 and (role, module_path, io) not in paired:
                warnings.append(
                    f"{path}.{names[role]}.forward_hook.{io}: {module_path} is called "
                    f"{hooked.calls} times in a pass; the host keeps its last call"
                )
    return warnings


def _pairs(stage: Mapping[str, Any], path: str) -> Iterator[Pair]:
    """Yield each pair of ``ACMLoss``."""
    for where, kwargs in sections.acm_losses(stage, path):
        for name, pair in kwargs["pairs"].items():
            yield f"{where}.pairs.{name}", pair, pair.get("grid", kwargs.get("grid", 1))


def _check_rectangles(recipe: Recipe, pairs: Iterable[Pair], passes: Mapping[str, Passes]) -> None:
    """Refuse cells of tokens that would be taken for a square, of images that are none."""
    for key, pair, grid in pairs:
        tokens, sizes = [], []
        for role in SIDES:
            end = end_of(pair, role)
            seen = passes[role].plain.get((end.path, end.io)) if role in passes else None
            if seen is not None and end.layout == "tokens" and len(seen.shape) == 3:
                tokens.append(seen.shape[1] - end.prefix_tokens)
            elif seen is not None:
                sizes.append(size_of(seen.shape, end.layout))
        square = any(size is not None and size[0] == size[1] > 1 for size in sizes)
        as_many = grid == FULL and len(set(tokens)) == 1
        if (len(tokens) == 1 and square) or (len(tokens) == 2 and not as_many):
            raise recipe.error(
                key,
                f"found grid: {grid} for {tokens[0]} tokens of images that aren't square; "
                "nothing tells in which rectangle they lie. Write grid: 1, or grid: full where "
                "both sides have as many tokens",
            )


def _check_windows(recipe: Recipe, pairs: Iterable[Pair], passes: Mapping[str, Passes]) -> None:
    """Refuse cells of an activation that is cut into windows beside one that isn't cut so."""
    for key, pair, grid in pairs:
        roles = [role for role in SIDES if role in passes]
        windows = {role: _windows(end_of(pair, role), passes[role]) for role in roles}
        if len({size and size[0] / size[1] for size in windows.values()}) > 1:
            role, size = next((r, size) for r, size in windows.items() if size is not None)
            raise recipe.error(
                f"{key}.{role}",
                f"found grid: {grid} for {size[0]}×{size[1]} positions that lie otherwise than "
                "the image's, as those of windows do, and than the other side's. Write grid: 1, or "
                "hook a module that doesn't cut its activation",
            )


def _windows(end: PairEnd, seen: Passes) -> Size | None:
    """Return rows and columns of an activation if they don't lie as the image's do.

    Of an image twice the size there are four times as many windows, each as large. Where a model
    takes none, their proportions tell, which are other than the image's.
    """
    plain, doubled = (passed.get((end.path, end.io)) for passed in (seen.plain, seen.doubled))
    size = plain and size_of(plain.shape, end.layout)
    if not size or min(size) == 1:
        return None
    larger = doubled and size_of(doubled.shape, end.layout)
    if larger:
        return size if larger[0] >= 3 * size[0] and larger[1] == size[1] else None
    height, width = seen.image.shape[-2:]
    unlike = abs(size[0] * width - size[1] * height) > height + width  # by more than rounding
    return size if unlike else None


def _check_calls(
    recipe: Recipe, key: str, end: PairEnd, pair: Mapping[str, Any], hooked: Hooked
) -> None:
    if hooked.calls > 1 and pair.get("call") != LAST:
        raise recipe.error(
            key,
            f"{end.path!r} is called {hooked.calls} times in a pass, and the host keeps its last "
            "call; if that is meant, write call: last in the pair",
        )


def _layout(recipe: Recipe, key: str, end: PairEnd, hooked: Hooked, seen: Passes) -> Iterator[str]:
    if not hooked.shape:  # no tensor, which the loss refuses
        return
    rows = seen.rows((end.path, end.io))
    if rows is None:
        raise recipe.error(
            key,
            f"the {end.io} of {end.path!r} doesn't begin with the images: of one and of two it is "
            f"{hooked.shape[0]} long there. Set batch_first=True, or hook another module",
        )
    if rows > 1:
        yield (
            f"{key}: the {end.io} of {end.path!r} has {rows} rows of each image, which are matched "
            "one by one; hook another module to match images"
        )
    if len(hooked.shape) == 2:  # a channel map already
        return
    told, prefix = seen.layout((end.path, end.io))
    shape = "×".join(map(str, hooked.shape[1:]))
    if told is None:
        yield (
            f"{key}: {shape} is taken for {SHAPES[end.layout]} (layout: {end.layout}); it can't be "
            "told here whether its channels are there"
        )
    elif told != end.layout:
        fits = f"write layout: {told}" if told in LAYOUTS else "hook another module"
        raise recipe.error(
            key,
            f"the {end.io} of {end.path!r} is {SHAPES[told]}, {shape} here; found layout: "
            f"{end.layout}. {fits[0].upper()}{fits[1:]}",
        )
    elif told == "tokens" and prefix not in (None, end.prefix_tokens):
        yield (
            f"{key}: of the {hooked.shape[1]} tokens {prefix} seem to be no positions; found "
            f"prefix_tokens: {end.prefix_tokens}"
        )


def _look(
    role: str, model: nn.Module, hooks: Mapping[str, Sequence[str]], images: Tensor
) -> Passes:
    ends = [(module_path, io) for io in IO for module_path in hooks.get(io) or ()]
    try:
        seen = passes_over(model, ends, images[:1])
    except ValueError:  # the trial step says what is wrong
        return Passes(model, images[:1])
    if role == "student" and seen.plain:  # which may call a module more often in train mode
        with suppress(ValueError):
            trained = hooked_ends(model, ends, images.clone(), training=True)
            for end, hooked in seen.plain.items():
                hooked.calls = max(hooked.calls, trained[end].calls)
    return seen
