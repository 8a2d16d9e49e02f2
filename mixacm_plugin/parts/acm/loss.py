"""The activated channel map loss L_acm."""

from collections.abc import Iterator, Mapping
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn
from torchdistill.losses.registry import register_mid_level_loss

from .cells import cell_distance
from .channel_maps import (
    MAPPINGS,
    cell_maps,
    channel_map,
    normalize_map,
    rows_of,
)
from .pairs import (
    SIDES,
    PairEnd,
    PairError,
    check_grid,
    check_pair,
    check_transform,
    end_of,
)
from .positions import at_positions, cells_of, in_a_column, size_of
from .transforms import resize_channels


def acm_loss(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Mean squared difference of the two normalised channel maps.

    Args:
        student_map: ``(N, C)``, any scale.
        teacher_map: ``(N, C)``, any scale.

    Returns:
        A scalar, zero where the maps agree up to a positive factor and at most ``4 / C``.

    Raises:
        ValueError: if the shapes differ, or aren't of channel maps.

    Source: MixACM, supplement A.2; the distance and its reduction are this plugin's reading.

    Example:
        >>> import torch
        >>> acm_loss(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]])).item()
        1.0
    """
    if student_map.ndim != 2 or student_map.shape != teacher_map.shape:
        raise ValueError(
            f"expected channel maps (N, C) of one shape; found student {tuple(student_map.shape)}, "
            f"teacher {tuple(teacher_map.shape)}. channel_map makes them of activations"
        )
    return (normalize_map(student_map) - normalize_map(teacher_map)).square().mean()


@register_mid_level_loss
class ACMLoss(nn.Module):
    """Weighted sum over pairs of ``acm_loss`` between hooked modules of student and teacher.

    Each activation is mapped to a channel map, transformed where a transform is given, and
    normalised.

    Args:
        pairs: name to ``{teacher: {path, io}, student: {path, io}}`` and, optionally, ``weight``
            (default 1), ``transform``, ``grid``, ``layout`` (default ``nchw``, see
            ``channel_map``), ``prefix_tokens`` and ``call: last``, which says that a module called
            several times is meant to count by its last call, as it does in the host. A side may
            have a ``layout`` and ``prefix_tokens`` of its own.
        mapping: see ``channel_map``.
        transform: for all pairs without their own: ``{side: teacher|student, kind: ...}`` with a
            kind of ``resize_channels``, or ``{side, module}`` with a module from ``affine``.
            A pooling changes nothing where the channel counts are equal.
        grid: for all pairs without their own, see ``channel_map``: each cell's channel map is
            transformed, normalised and matched by itself, and the loss is the mean over cells. Both
            sides have as many cells as the smaller one can; ``full`` matches every position. 1 is
            the paper's.

    Raises:
        PairError: on a malformed argument, at construction; on channel counts that differ and no
            transform to make them equal, in the first step.

    Source: MixACM, supplement A.2 and A.4.6.
    """

    def __init__(
        self,
        pairs: Mapping[str, Mapping[str, Any]],
        mapping: str = "mean",
        transform: Mapping[str, Any] | None = None,
        grid: int | str = 1,
    ) -> None:
        super().__init__()
        if mapping not in list(MAPPINGS):
            raise PairError("mapping", f"expected one of {', '.join(MAPPINGS)}; found {mapping!r}")
        if not isinstance(pairs, Mapping) or not pairs:
            raise PairError("pairs", f"expected named pairs; found {pairs!r}")
        check_transform(transform, "transform")
        check_grid(grid, "grid")
        for name, pair in pairs.items():
            check_pair(pair, f"pairs.{name}")
        self.mapping = mapping
        own = {"weight": 1.0, "transform": transform, "grid": grid}
        self.pairs = {n: {**own, **p} for n, p in pairs.items()}
        self.ends = {n: {s: end_of(pair, s) for s in SIDES} for n, pair in pairs.items()}

    def forward(
        self,
        student_io_dict: Mapping[str, Mapping[str, Tensor]],
        teacher_io_dict: Mapping[str, Mapping[str, Tensor]],
        targets: Tensor | None = None,
    ) -> Tensor:
        """Return the loss, a scalar, from the host's dictionaries of hooked activations."""
        hooked = {"teacher": teacher_io_dict, "student": student_io_dict}
        for side, activations in hooked.items():
            if not isinstance(activations, Mapping):
                raise TypeError(
                    f"ACMLoss takes torchdistill's dictionaries of what is hooked; found "
                    f"{type(activations).__name__} of the {side}. ACM takes models, acm_loss the "
                    "channel maps of two tensors"
                )
        losses: list[Tensor] = [
            pair["weight"] * self._pair_loss(name, pair, hooked)
            for name, pair in self.pairs.items()
        ]
        total: Tensor = reduce(torch.add, losses)
        return total

    def map_of(self, end: PairEnd, activation: Tensor) -> Tensor:
        """Channel map ``(N, C)`` of what is hooked at one side of a pair, not yet transformed."""
        return channel_map(
            activation,
            mapping=self.mapping,
            layout=end.layout,
            prefix_tokens=end.prefix_tokens,
        )

    def learnable_transforms(self) -> Iterator[tuple[str, nn.Module]]:
        """Yield the name of each pair with a learnable transform, and the transform."""
        for name, pair in self.pairs.items():
            if pair["transform"] and "module" in pair["transform"]:
                yield name, pair["transform"]["module"]

    def extra_repr(self) -> str:
        """Say in the host's log what is matched."""
        return f"pairs={list(self.pairs)}, mapping={self.mapping}"

    def _pair_loss(self, name: str, pair: Mapping[str, Any], hooked: Mapping[str, Any]) -> Tensor:
        activations = {side: self._hooked(name, side, hooked) for side in SIDES}
        whole = pair["grid"] == 1
        maps = self._maps(name, activations) if whole else self._cells(name, pair, activations)
        transform = pair["transform"]
        counts = {side: maps[side].shape[1] for side in SIDES}
        if transform is not None and ("module" in transform or len(set(counts.values())) > 1):
            side = transform["side"]
            maps = {s: rows_of(m) if m.ndim == 4 else m for s, m in maps.items()}
            maps[side] = self._transformed(name, transform, maps)
        elif counts["teacher"] != counts["student"]:
            raise PairError(
                f"pairs.{name}",
                f"the teacher has {counts['teacher']} channels and the student "
                f"{counts['student']}; give a transform, e.g. "
                "transform: {side: teacher, kind: adaptive_max_pool}",
            )
        return (acm_loss if whole else cell_distance)(maps["student"], maps["teacher"])

    def _hooked(self, name: str, side: str, hooked: Mapping[str, Any]) -> Tensor:
        end = self.ends[name][side]
        try:
            activation = hooked[side][end.path][end.io]
        except KeyError:
            raise PairError(
                f"pairs.{name}.{side}",
                f"the {end.io} of '{end.path}' isn't hooked; list '{end.path}' under "
                f"train.{side}.forward_hook.{end.io}",
            ) from None
        if isinstance(activation, Tensor):
            return activation
        found = f"is a {type(activation).__name__}, not a tensor"
        if activation == ():
            found = "is given by keyword, so that nothing is hooked"
        raise PairError(
            f"pairs.{name}.{side}",
            f"the {end.io} of '{end.path}' {found}; hook a module that takes or returns one tensor "
            "alone",
        )

    def _maps(self, name: str, activations: Mapping[str, Tensor]) -> dict[str, Tensor]:
        maps = {}
        for side, activation in activations.items():
            end = self.ends[name][side]
            try:
                maps[side] = self.map_of(end, activation)
            except ValueError as error:
                raise PairError(f"pairs.{name}.{side}", f"'{end.path}': {error}") from None
        return maps

    def _cells(
        self, name: str, pair: Mapping[str, Any], activations: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return the channel maps of the cells that both sides of a pair have."""
        whole: dict[str, Tensor] = {}
        sizes = (size_of(a.shape, self.ends[name][side].layout) for side, a in activations.items())
        beside = next(filter(None, sizes), (1, 1))
        columns = False
        for side, activation in activations.items():
            _, _, layout, prefix = self.ends[name][side]
            try:
                if activation.ndim > 2:
                    activation = at_positions(
                        activation, layout=layout, prefix_tokens=prefix, beside=beside
                    )
                    columns |= in_a_column(activation, layout=layout, beside=beside)
                whole[side] = activation
                cells = cells_of(pair["grid"], *whole.values(), columns=columns)
            except ValueError as error:
                raise PairError(f"pairs.{name}.{side}", str(error)) from None
        return {side: cell_maps(values, self.mapping, cells) for side, values in whole.items()}

    @staticmethod
    def _transformed(name: str, transform: Mapping[str, Any], maps: dict[str, Tensor]) -> Tensor:
        side = transform["side"]
        other = maps["student" if side == "teacher" else "teacher"].shape[1]
        if "kind" in transform:
            return resize_channels(maps[side], other, kind=transform["kind"])
        module, channels = transform["module"], maps[side].shape[1]
        expected = (
            getattr(module, "in_features", channels),
            getattr(module, "out_features", other),
        )
        if expected != (channels, other):
            raise PairError(
                f"pairs.{name}.transform.module",
                f"found an affine from {expected[0]} to {expected[1]} channels; on the {side}'s "
                f"side of this pair it has to map {channels} to {other}",
            )
        with torch.autocast(maps[side].device.type, enabled=False):
            transformed: Tensor = module(maps[side].to(next(module.parameters()).dtype))
            return transformed.to(maps[side].dtype)
