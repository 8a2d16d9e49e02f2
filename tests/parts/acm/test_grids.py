"""Grids: a channel map for each cell of an activation."""

import pytest
import torch
from torch.autograd import gradcheck

from mixacm_plugin import ACMLoss, acm_loss, affine, channel_map
from mixacm_plugin.parts.acm import cells
from mixacm_plugin.parts.acm.cells import cell_distance
from mixacm_plugin.parts.acm.channel_maps import MAPPINGS, rows_of
from mixacm_plugin.parts.acm.pairs import PairError

BIG = torch.randn(2, 5, 8, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
SMALL = torch.randn(2, 5, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
SQUARE = SMALL.flatten(2).transpose(1, 2)  # 16 tokens
WITH_CLASS = torch.cat([torch.zeros(2, 1, 5), SQUARE], 1)
PAIR = {"teacher": {"path": "t", "io": "output"}, "student": {"path": "s", "io": "output"}}


def loss(student, teacher, grid, **arguments):
    hooked = ({"s": {"output": student}}, {"t": {"output": teacher}})
    return ACMLoss({"only": PAIR}, grid=grid, **arguments)(*hooked)


def cut(activation, rows, columns):
    """The cells of an activation, row by row, by a plain loop."""
    height, width = activation.shape[2] // rows, activation.shape[3] // columns
    return [
        activation[:, :, r * height : (r + 1) * height, c * width : (c + 1) * width]
        for r in range(rows)
        for c in range(columns)
    ]


@pytest.mark.parametrize("mapping", MAPPINGS)
@pytest.mark.parametrize(("grid", "cells"), [(2, (2, 2)), (4, (4, 4)), ("full", (8, 4))])
def test_a_cells_map_is_that_of_its_positions(grid, cells, mapping):
    maps = channel_map(BIG, mapping=mapping, grid=grid)
    expected = [channel_map(cell, mapping=mapping) for cell in cut(BIG, *cells)]
    torch.testing.assert_close(maps, torch.stack(expected, 1).flatten(0, 1))


@pytest.mark.parametrize("mapping", MAPPINGS)
def test_one_cell_is_the_papers_channel_map(mapping):
    assert torch.equal(channel_map(BIG, mapping=mapping, grid=1), channel_map(BIG, mapping=mapping))
    torch.testing.assert_close(loss(SMALL, BIG, 1), acm_loss(channel_map(SMALL), channel_map(BIG)))


@pytest.mark.parametrize(
    ("activation", "layout"),
    [
        (SMALL.movedim(1, -1), {"layout": "nhwc"}),
        (SQUARE, {"layout": "tokens"}),
        (WITH_CLASS, {"layout": "tokens", "prefix_tokens": 1}),
    ],
)
def test_a_layout_gives_the_cells_of_the_same_numbers(activation, layout):
    torch.testing.assert_close(
        channel_map(activation, grid=2, **layout), channel_map(SMALL, grid=2)
    )


@pytest.mark.parametrize("grid", [4, 9, "full"])
def test_both_sides_have_the_cells_of_the_smaller_one(grid):
    own, taught = (map(channel_map, cut(activation, 4, 4)) for activation in (SMALL, BIG))
    expected = torch.stack(list(map(acm_loss, own, taught))).mean()
    torch.testing.assert_close(loss(SMALL, BIG, grid), expected)


@pytest.mark.parametrize("mapping", MAPPINGS)
def test_uneven_cells_cover_every_position(mapping):
    activation = torch.rand(1, 2, 7, 7, dtype=torch.float64).requires_grad_()
    maps = channel_map(activation, mapping=mapping, grid=3)
    assert maps.shape == (9, 2)
    assert gradcheck(lambda a: channel_map(a, mapping=mapping, grid=3), activation)
    if mapping != "max":
        (gradient,) = torch.autograd.grad(maps.sum(), activation)
        assert (gradient > 0).all()


@pytest.mark.parametrize("transform", [{"side": "teacher", "kind": "adaptive_avg_pool"}, None])
def test_each_cell_is_transformed_by_itself(transform):
    wide = torch.cat([BIG, BIG], 1)
    if transform is None:
        module = affine(10, 5).double()
        transform = {"side": "teacher", "module": module}
        taught = [module(channel_map(cell)) for cell in cut(wide, 2, 2)]
    else:
        taught = [channel_map(cell).view(2, 5, 2).mean(2) for cell in cut(wide, 2, 2)]
    own = [channel_map(cell) for cell in cut(SMALL, 2, 2)]
    expected = torch.stack(list(map(acm_loss, own, taught))).mean()
    torch.testing.assert_close(loss(SMALL, wide, 2, transform=transform), expected)


@pytest.mark.parametrize("frozen", [True, False])
def test_the_distance_of_cells_is_the_loss_of_their_maps_in_rows(frozen):
    student, teacher = (m.clone().requires_grad_() for m in (SMALL, SMALL.flip(0)))
    given = (student, teacher.detach() if frozen else teacher)
    expected = acm_loss(*map(rows_of, given))
    torch.testing.assert_close(cell_distance(*given), expected)
    trained = [maps for maps in given if maps.requires_grad]
    own, by_rows = (torch.autograd.grad(d, trained) for d in (cell_distance(*given), expected))
    torch.testing.assert_close(own, by_rows)
    assert gradcheck(cell_distance, given)


@pytest.mark.parametrize("scale", [1e-15, 1.0, 1e15])
def test_the_distance_of_cells_ignores_their_scale(scale):
    student, teacher = SMALL.float(), BIG[:, :, :4].float()
    scales = scale * torch.rand(2, 1, 4, 4)
    torch.testing.assert_close(
        cell_distance(scales * student, teacher), cell_distance(student, teacher)
    )
    assert 0 <= cell_distance(scales * student, student).item() < 1e-6


def test_a_cell_that_is_zero_has_no_direction_and_no_gradient():
    student = SMALL.clone()
    student[:, :, 1] = 0
    teacher = SMALL.flip(0)
    teacher[:, :, 2] = 0
    student.requires_grad_()
    torch.testing.assert_close(
        cell_distance(student, teacher), acm_loss(*map(rows_of, (student, teacher)))
    )
    (gradient,) = torch.autograd.grad(cell_distance(student, teacher), student)
    assert (gradient[:, :, 1:3] == 0).all()
    assert (gradient[:, :, [0, 3]] != 0).any()


@pytest.mark.parametrize("scale", [1e-18, 3e-20, 1e-21, 1e-24])
def test_the_gradient_of_a_tiny_cell_is_finite(scale):
    student = (scale * SMALL).float().requires_grad_()
    (gradient,) = torch.autograd.grad(cell_distance(student, SMALL.flip(0).float()), student)
    assert gradient.isfinite().all()


def test_the_distance_of_cells_is_the_same_by_parts(monkeypatch):
    student, teacher = SMALL.clone().requires_grad_(), SMALL.flip(0)
    whole = cell_distance(student, teacher)
    gradient = torch.autograd.grad(whole, student)
    monkeypatch.setattr(cells, "AT_ONCE", 1)  # an image at once
    by_parts = cell_distance(student, teacher)
    torch.testing.assert_close(by_parts, whole)
    torch.testing.assert_close(torch.autograd.grad(by_parts, student), gradient)


def test_positions_in_bfloat16_are_summed_in_float32_and_their_gradient_lies_as_they_do():
    student, teacher = (
        m.to(torch.bfloat16, memory_format=torch.channels_last) for m in (SMALL, SMALL.flip(0))
    )
    distance = cell_distance(student.requires_grad_(), teacher)
    exact = student.detach().float().requires_grad_()
    expected = cell_distance(exact, teacher.float())
    assert distance.dtype == torch.float32 and torch.equal(distance, expected)
    (gradient,), (by_float,) = (
        torch.autograd.grad(d, s) for d, s in ((distance, student), (expected, exact))
    )
    assert gradient.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(gradient, by_float.bfloat16())


def test_a_pairs_own_grid_comes_first():
    pair = {**PAIR, "grid": 2}
    hooked = ({"s": {"output": SMALL}}, {"t": {"output": BIG}})
    assert torch.equal(ACMLoss({"only": pair})(*hooked), loss(SMALL, BIG, 2))


@pytest.mark.parametrize("grid", [0, -1, 1.5, True, "half", None, [2]])
def test_another_grid_is_refused(grid):
    with pytest.raises(PairError, match=r"grid: expected a whole number of at least 1, or full"):
        ACMLoss({"only": PAIR}, grid=grid)
    with pytest.raises(PairError, match=r"pairs\.only\.grid: expected"):
        ACMLoss({"only": {**PAIR, "grid": grid}})


@pytest.mark.parametrize("grid", [0, -1, 1.5, False, "half", None, [2], (2, 2), (0, 2), (2,)])
def test_another_grid_is_refused_of_a_map_alone(grid):
    with pytest.raises(ValueError, match=r"grid: expected a whole number of at least 1, or full"):
        channel_map(SMALL, grid=grid)


@pytest.mark.parametrize("grid", [2, "full"])
def test_tokens_that_form_no_square_are_refused(grid):
    pair = {**PAIR, "student": {**PAIR["student"], "layout": "tokens"}}
    hooked = ({"s": {"output": WITH_CLASS}}, {"t": {"output": BIG}})
    with pytest.raises(PairError, match=r"pairs\.only\.student: .*17 tokens form no square"):
        ACMLoss({"only": pair}, grid=grid)(*hooked)


@pytest.mark.parametrize("grid", [1, 2, 3, "full"])
@pytest.mark.parametrize("size", [(9, 16), (4, 16), (3, 5), (4, 4)])
@pytest.mark.parametrize("side", ["student", "teacher"])
def test_tokens_lie_in_the_rectangle_of_the_other_side(side, size, grid):
    activation = torch.rand(2, 5, *size, dtype=torch.float64)
    hooked = {"s": {"output": activation}, "t": {"output": activation}}
    hooked[side[0]] = {"output": activation.flatten(2).transpose(1, 2)}
    pair = {**PAIR, side: {**PAIR[side], "layout": "tokens"}}
    assert ACMLoss({"only": pair}, grid=grid)(hooked, hooked).item() < 1e-12


def test_tokens_in_finer_steps_than_the_other_side_have_its_proportions():
    fine = torch.rand(2, 5, 4, 16, dtype=torch.float64)  # 64 tokens, a square too
    coarse = torch.nn.functional.avg_pool2d(fine, 2)
    pair = {**PAIR, "student": {**PAIR["student"], "layout": "tokens"}}
    hooked = ({"s": {"output": fine.flatten(2).transpose(1, 2)}}, {"t": {"output": coarse}})
    assert ACMLoss({"only": pair}, grid="full")(*hooked).item() < 1e-12


@pytest.mark.parametrize("grid", [1, 2, "full"])
@pytest.mark.parametrize(("layout", "rows"), [("nchw", 12), ("nhwc", 12), ("tokens", 6)])
def test_a_column_of_positions_has_the_cells_of_a_row(layout, rows, grid):
    student, teacher = (torch.rand(2, 5, count, 1, dtype=torch.float64) for count in (6, rows))
    lying = teacher.movedim(1, -1) if layout == "nhwc" else teacher
    lying = teacher.flatten(2).mT if layout == "tokens" else lying
    hooked = ({"s": {"output": student}}, {"t": {"output": lying}})
    pair = {**PAIR, "teacher": {**PAIR["teacher"], "layout": layout}}
    found = ACMLoss({"only": pair}, grid=grid)(*hooked)
    torch.testing.assert_close(found, loss(student.mT, teacher.mT, grid))
    if layout != "tokens":  # of which nothing tells here how they lie
        maps = channel_map(lying, layout=layout, grid=grid)
        torch.testing.assert_close(maps, channel_map(teacher.mT, grid=grid))


def test_tokens_that_form_a_square_but_not_the_other_sides_rectangle_are_refused():
    pair = {**PAIR, "student": {**PAIR["student"], "layout": "tokens"}}
    hooked = ({"s": {"output": SQUARE}}, {"t": {"output": torch.rand(2, 5, 3, 5)}})
    with pytest.raises(PairError, match=r"only\.student: grid: 16 tokens form no square, or"):
        ACMLoss({"only": pair}, grid=2)(*hooked)
