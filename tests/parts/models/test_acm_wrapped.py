"""``ACM`` around a student that is compiled, autocast, or spread over processes."""

import pytest
import torch
from torch import distributed, multiprocessing
from torch.nn.parallel import DistributedDataParallel

from mixacm_plugin import ACM, dm_wide_resnet

pytestmark = pytest.mark.slow
IMAGES = torch.rand(8, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def gradient(images=IMAGES, grid=1, wrap=lambda model: model, bf16=False):
    """Of a task and ACM, at the student's first layer."""
    torch.manual_seed(0)
    student, teacher = (dm_wide_resnet(10, 1).eval() for _ in range(2))
    acm, model = ACM(student, teacher, grid=grid, input_shape=(3, 8, 8)), wrap(student)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        with torch.no_grad():
            teacher(images)
        loss = model(images).float().square().mean() + 200 * acm()
    loss.backward()
    return student.init_conv.weight.grad


def train_on_half(rank, init, grid, expected):
    distributed.init_process_group("gloo", init_method=init, rank=rank, world_size=2)
    own = gradient(IMAGES.chunk(2)[rank], grid, DistributedDataParallel)
    torch.testing.assert_close(own, expected, rtol=1e-4, atol=1e-4)
    distributed.destroy_process_group()


@pytest.mark.parametrize("grid", [1, "full"])
def test_a_compiled_student_has_the_same_gradient(grid):
    def compiled(model):
        return torch.compile(model, backend="aot_eager")

    torch.testing.assert_close(
        gradient(grid=grid, wrap=compiled), gradient(grid=grid), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("grid", [1, "full"])
def test_under_autocast_the_gradient_differs_by_rounding(grid):
    exact, rounded = gradient(grid=grid), gradient(grid=grid, bf16=True)
    assert rounded.dtype == torch.float32
    assert 0 < (exact - rounded).norm() < 0.05 * exact.norm()


@pytest.mark.parametrize("grid", [1, "full"])
def test_two_processes_have_the_gradient_of_the_whole_batch(grid, tmp_path):
    init = f"file://{tmp_path / 'init'}"
    multiprocessing.spawn(train_on_half, (init, grid, gradient(grid=grid)), nprocs=2)
