"""On a GPU: the same figures as on a CPU, and no wait for the device in a step."""

import os

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mixacm_plugin import ACM, PGD, AutoAttack, RecipeError, Training, dm_wide_resnet, evaluate
from mixacm_plugin.common.distributed import init_process_group
from mixacm_plugin.common.images import unpack
from mixacm_plugin.parts.acm.channel_maps import MAPPINGS
from mixacm_plugin.preflight.inspection import inspect_recipe
from mixacm_plugin.training.epoch import train_steps
from mixacm_plugin.training.metrics import record_terms
from recipes import CPU, Few, mixacm, recipe
from runs import metrics, saved
from weights import differing

pytestmark = pytest.mark.gpu
GPU = torch.device("cuda")
SETTINGS = {
    "fp32": (),
    "bf16": ("compute.precision=bf16", "compute.channels_last=True"),
    "compiled": ("compute.compile=True",),
}


@pytest.fixture(autouse=True)
def exact_products():
    """Convolutions without TF32, which is good to three digits."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


def mapped(text, mapping, grid):
    pairs = "              pairs:"
    return text.replace(
        pairs, f"              mapping: {mapping}\n              grid: {grid}\n{pairs}"
    )


def first_step(device, text, *overrides):
    """Terms of the first batch, and the gradient that they give the student."""
    training = Training(recipe(text, *overrides), device, seed=0)
    box = training.box
    batch = unpack(next(iter(box.train_data_loader)), device)
    with record_terms(box.criterion) as terms:
        box.forward_process(*batch).backward()
    parameters = training.models["student"].parameters()
    gradient = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
    return {name: term.item() for name, term in terms.items()}, gradient.cpu()


@pytest.mark.parametrize("mapping", MAPPINGS)
@pytest.mark.parametrize("grid", [1, 2, "full"])
def test_a_step_has_the_terms_and_the_gradient_that_it_has_on_a_cpu(mapping, grid):
    text = mapped(mixacm(), mapping, grid)
    (terms, gradient), (expected, exact) = (first_step(device, text) for device in (GPU, CPU))
    assert terms == pytest.approx(expected, rel=1e-3)
    assert (gradient - exact).norm() < 1e-2 * exact.norm()


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("kind", [None, "affine"])
def test_no_step_waits_for_the_device(setting, kind):
    training = Training(recipe(mixacm(kind=kind), *SETTINGS[setting]), GPU, seed=0)
    box = training.box
    box.pre_epoch_process(epoch=0)
    batches = [unpack(batch, GPU) for batch in box.train_data_loader]
    for batch in batches:  # compiles
        box.post_forward_process(loss=box.forward_process(*batch))
    box.train_data_loader = [(images, targets) for images, targets, _ in batches]
    forward = box.forward_process

    def watched(*batch):
        torch.cuda.set_sync_debug_mode("error")
        return forward(*batch)

    box.forward_process = watched
    try:
        sums = train_steps(
            box,
            GPU,
            "",
            read_every=1000,
            after_step=lambda *_: torch.cuda.set_sync_debug_mode("default"),
        )
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert sums.images == sum(len(images) for images, *_ in batches)


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_run_trains_and_can_be_gone_on_with(setting):
    Training(recipe(mixacm(), *SETTINGS[setting]), GPU, seed=0).run()
    first, second = metrics()
    assert second["loss"] < 2 * first["loss"]
    longer = Training(recipe(mixacm(), *SETTINGS[setting]), GPU, seed=0)
    longer.resume("out/student.pt")
    assert longer.finished
    cpu = {name: value.cpu() for name, value in longer.models["student"].state_dict().items()}
    written = torch.load("out/student.pt", map_location="cpu", weights_only=False)["model"]
    assert not differing(cpu, written)


def test_a_loss_that_is_not_finite_is_named_with_its_step_and_nothing_is_saved():
    with pytest.raises(RecipeError, match=r"in epoch 1, step 1.*no checkpoint was written"):
        Training(recipe(mixacm().replace("weight: 20.0", "weight: 1.0e+300")), GPU, seed=0).run()


def test_attacks_find_what_they_find_on_a_cpu():
    model, images = dm_wide_resnet(10, 1).eval(), Few("test", n=50)
    torch.manual_seed(0)
    for attack in (PGD(eps=0.1, steps=5), AutoAttack(eps=0.05)):
        on_gpu, on_cpu = (
            evaluate(model, images, attack, n=20, device=device) for device in (GPU, CPU)
        )
        assert on_gpu.clean == on_cpu.clean
        assert abs(on_gpu.value - on_cpu.value) <= 0.1  # draws differ by device


def test_a_check_names_the_gpus_memory():
    found = inspect_recipe(recipe(), GPU)
    assert 0 < found.peak_memory < 2**30


def test_a_process_joins_by_nccl_and_batch_statistics_are_shared(tmp_path, monkeypatch):
    for name, value in {"RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0}.items():
        monkeypatch.setitem(os.environ, name, str(value))
    device = init_process_group(GPU, f"file://{tmp_path}/group")
    try:
        assert dist.get_backend() == "nccl" and device == torch.device("cuda", 0)
        student, teacher = dm_wide_resnet(10, 1).to(device), dm_wide_resnet(16, 2).to(device).eval()
        student = nn.SyncBatchNorm.convert_sync_batchnorm(student)
        acm = ACM(student, teacher, input_shape=(3, 8, 8))
        shared = DistributedDataParallel(student, device_ids=[0])
        images = torch.rand(8, 3, 8, 8, device=device)
        with torch.no_grad():
            teacher(images)
        (shared(images).square().mean() + acm()).backward()
        assert all(torch.isfinite(p.grad).all() for p in student.parameters())
        Training(recipe(mixacm()), device, seed=0).run()
        assert saved()["epoch"] == 1
    finally:
        dist.destroy_process_group()
