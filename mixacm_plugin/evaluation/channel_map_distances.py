"""Mean channel maps of trained models, and how far each is from the teacher's."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from ..common.images import check_images, drawn, every_batch, unpack
from ..common.modules import alone, find_module
from ..parts.acm.channel_maps import channel_map, normalize_map
from ..parts.acm.loss import ACMLoss
from ..parts.acm.pairs import IO, SIDES, PairEnd, PairError
from ..parts.acm.positions import LAYOUTS
from ..parts.acm.transforms import resize_channels
from ..parts.models.hooks.ends import passes_over
from ..reading import sections
from ..reading.recipe import Recipe

TEACHER = "teacher"
GIVEN = re.compile(r"(?P<path>.+?):(?P<io>input|output)(:(?P<layout>\w+))?")


@dataclass(frozen=True)
class Block:
    """A hook point: where a model's activation is taken.

    Args:
        name: of the block.
        ends: module, input or output, and layout, for each role.
        kind: pooling that makes channel counts equal, as in ``resize_channels``, if any.
    """

    name: str
    ends: Mapping[str, PairEnd]
    kind: str | None = None


@dataclass(frozen=True)
class Distance:
    """How far a model's mean channel map of a block is from the teacher's.

    Where channel counts differ, the longer map is resized to the other's and given back its
    magnitude: fewer numbers of the same size would be a shorter vector.

    Args:
        model: its name.
        block: its name.
        sorted_l2: ℓ2 distance of the sorted maps: of the two curves in the picture.
        cosine: cosine similarity channel by channel, 1 where the maps agree; ``None`` where
            channel counts differ and no pooling makes them equal.
        l2: ℓ2 distance channel by channel; ``None`` likewise.
    """

    model: str
    block: str
    sorted_l2: float
    cosine: float | None
    l2: float | None


def blocks_of(recipe: Recipe, given: Sequence[str] = ()) -> tuple[list[Block], str]:
    """Hook points and mapping: of the recipe's first ACMLoss, or the hook points that are given.

    Args:
        recipe: of it only ``train`` is built, and only where nothing is given.
        given: ``module.path:output`` or ``module.path:input`` each, for all models; a layout may
            follow, as in ``features.1:output:nhwc``.

    Raises:
        RecipeError: on a hook point that is malformed or given twice, or if the recipe has no
            ACMLoss.
    """
    if given:
        return [_given(recipe, text, given) for text in given], "mean"
    config = {"train": recipe.build("train")}
    for path, stage in sections.stages(config):
        for where, kwargs in sections.acm_losses(stage, path):
            try:
                loss = ACMLoss(**kwargs)
            except PairError as error:
                raise recipe.error(f"{where}.{error.where}", error.message) from error
            except TypeError as error:
                raise recipe.error(where, str(error)) from error
            blocks = [
                Block(name, loss.ends[name], (pair["transform"] or {}).get("kind"))
                for name, pair in loss.pairs.items()
            ]
            return blocks, loss.mapping
    raise recipe.error("train", "no ACMLoss names hook points here; give them with --blocks")


def _given(recipe: Recipe, text: str, given: Sequence[str]) -> Block:
    found = GIVEN.fullmatch(text)
    if found is None or (found["layout"] or "nchw") not in LAYOUTS:
        message = "expected MODULE.PATH:output or :input, then :nhwc or :tokens where it is so"
        raise recipe.error(f"--blocks {text}", message)
    if given.count(text) > 1:
        raise recipe.error(f"--blocks {text}", "given twice")
    path = found["path"]
    both = {f"{path}:{end}" for end in IO} <= set(given)
    end = PairEnd(path, found["io"], found["layout"] or "nchw")
    return Block(text if both else path, dict.fromkeys(SIDES, end))


@torch.no_grad()
def mean_channel_maps(
    model: nn.Module,
    dataset: Dataset,
    blocks: Sequence[Block],
    *,
    role: str = "student",
    mapping: str = "mean",
    n: int = 500,
    seed: int = 0,
    batch_size: int = 250,
    device: torch.device | str = "cpu",
) -> dict[str, Tensor]:
    """Average each block's normalised channel map over images.

    Args:
        model: takes ``(N, 3, H, W)`` in [0, 1]; put into eval mode.
        dataset: yields ``(image, label)``, images in [0, 1].
        blocks: where to look.
        role: whose end of a block this model has, ``teacher`` or ``student``.
        mapping: see ``channel_map``.
        n: number of images, drawn with ``seed``, the same for every model and as in ``evaluate``.
        seed: of that choice.
        batch_size: images at a time.
        device: where to run.

    Returns:
        A block's name to its map, ``(C,)``.

    Raises:
        ValueError: if there are fewer than ``n`` images, one isn't in [0, 1], the model lacks a
            block's module or never calls it, or that has its channels elsewhere.

    Source: MixACM, supplement A.2 and figure 4.
    """
    images_of_seed = drawn(dataset, n, seed)
    sums: dict[str, Tensor] = {}
    model = model.to(device).eval()
    for number, batch in enumerate(every_batch(DataLoader(images_of_seed, batch_size=batch_size))):
        images, _, _ = unpack(batch, torch.device(device))
        check_images(images)
        if number == 0:
            _check_layouts(model, blocks, role, images[:1])
        with _mapped(model, blocks, role, mapping) as of_batch:
            model(images)
        for block in blocks:
            if block.name not in of_batch:
                path = block.ends[role].path
                raise ValueError(
                    f"{type(model).__name__} never calls {path!r} (block {block.name})"
                )
            maps = of_batch[block.name]  # an image may have several rows
            own = maps.sum(0).double().cpu() / (len(maps) / len(images))
            sums[block.name] = sums.get(block.name, 0) + own
    return {block.name: sums[block.name] / n for block in blocks}


def _check_layouts(model: nn.Module, blocks: Sequence[Block], role: str, image: Tensor) -> None:
    """Raise ``ValueError`` where images or channels lie elsewhere than a hook point's layout says.

    Training refuses that too, but hook points of ``--blocks`` weren't trained with.
    """
    seen = passes_over(model, [block.ends[role][:2] for block in blocks], image)
    for block in blocks:
        path, io, layout, _ = block.ends[role]
        hooked = seen.plain.get((path, io))
        if hooked and hooked.shape and seen.rows((path, io)) is None:
            raise ValueError(
                f"the {io} of {path!r} doesn't begin with the images (block {block.name}); name "
                "another module"
            )
        told = seen.layout((path, io))[0] if hooked else None
        if hooked and told not in (None, layout):
            fits = f"write layout: {told}, of --blocks {path}:{io}:{told}"
            shape = "×".join(map(str, hooked.shape[1:]))
            raise ValueError(
                f"the channels of the {io} of {path!r}, {shape} here, "
                f"aren't where the layout {layout} has them (block {block.name}); "
                + (fits if told in LAYOUTS else "name another module")
            )


@contextmanager
def _mapped(
    model: nn.Module, blocks: Sequence[Block], role: str, mapping: str
) -> Iterator[dict[str, Tensor]]:
    """Yield a dictionary that gets each block's normalised channel maps in a pass of the model."""
    maps: dict[str, Tensor] = {}
    with ExitStack() as stack:
        for block in blocks:
            end = block.ends[role]
            module = find_module(model, end.path)
            if not isinstance(module, nn.Module):
                kind = type(model).__name__
                raise ValueError(f"{kind} has no module {end.path!r} (block {block.name})")

            # Mapped at once: a later in-place ReLU would change the tensor. Of a module that is
            # called several times the last call counts, as in the host.
            def hook(
                _: nn.Module, args: Any, output: Any, name: str = block.name, end: PairEnd = end
            ) -> None:
                value = alone(output if end.io == "output" else args)
                if not isinstance(value, Tensor):
                    raise ValueError(
                        f"the {end.io} of {end.path!r} is no tensor alone (block {name}); name a "
                        "module that takes or returns one"
                    )
                own = channel_map(
                    value,
                    mapping=mapping,
                    layout=end.layout,
                    prefix_tokens=end.prefix_tokens,
                )
                maps[name] = normalize_map(own)

            stack.callback(module.register_forward_hook(hook).remove)
        yield maps


def distances(maps: Mapping[str, Mapping[str, Tensor]], blocks: Sequence[Block]) -> list[Distance]:
    """Distances of each model's mean channel maps to the teacher's.

    Args:
        maps: a model's name to its maps from ``mean_channel_maps``; one is ``teacher``.
        blocks: where the maps were taken.
    """
    found = []
    for model in maps:
        for block in blocks:
            if model == TEACHER:
                continue
            own, other = maps[model][block.name], maps[TEACHER][block.name]
            length = min(len(own), len(other))
            curves = resized(own.sort()[0], length) - resized(other.sort()[0], length)
            cosine = l2 = None
            if block.kind is not None:
                pool = partial(resize_channels, kind=block.kind)
                own, other = resized(own, length, pool), resized(other, length, pool)
            if len(own) == len(other):
                cosine = float(F.cosine_similarity(own, other, dim=0))
                l2 = float(torch.linalg.vector_norm(own - other))
            distance = float(torch.linalg.vector_norm(curves))
            found.append(Distance(model, block.name, distance, cosine, l2))
    return found


def resampled(curves: Tensor, length: int) -> Tensor:
    """Interpolate curves, ``(N, C)``, to another length, their ends kept."""
    return F.interpolate(curves[None], length, mode="linear", align_corners=True)[0]


def resized(
    values: Tensor, length: int, resize: Callable[[Tensor, int], Tensor] = resampled
) -> Tensor:
    """Resize a map or curve, ``(C,)``, to another length, its magnitude kept."""
    if len(values) == length:
        return values
    return normalize_map(resize(values[None], length))[0] * torch.linalg.vector_norm(values)
