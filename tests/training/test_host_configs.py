"""The host's own configs, where TORCHDISTILL_REPO names a checkout of its repository."""

import os
from pathlib import Path

import pytest

from mixacm_plugin import RecipeError, read_recipe
from mixacm_plugin.preflight.inspection import inspect_recipe
from recipes import CPU

HOST = Path(os.environ.get("TORCHDISTILL_REPO", "no/checkout"))
SIZES = {"cifar10": 32, "cifar100": 32, "ilsvrc2012": 224}
CONFIGS = {
    str(file.relative_to(HOST / "configs")): size
    for kind in ("sample", "official")
    for data, size in SIZES.items()
    for file in sorted(HOST.glob(f"configs/{kind}/{data}/**/*.yaml"))
}
BROKEN = {  # which the host can't run either, and why not
    "sample/ilsvrc2012/cckd/resnet18_from_resnet50.yaml": "kernel_config: missing",
    "sample/ilsvrc2012/vid/resnet18_from_resnet50.yaml": "regressor1.kwargs: missing",
    **{
        f"sample/cifar10/kd/{students}-final_run.yaml": "no dataset 'cifar10/train'"
        for students in (
            "resnet20_from_densenet_bc_k12_depth100",
            "wide_resnet40_1_from_wide_resnet40_4",
        )
    },
}
NO_NETWORK = "there is no internet connection"  # for models of torch.hub


@pytest.mark.skipif(not CONFIGS, reason="TORCHDISTILL_REPO names no checkout")
@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_of_the_host_passes_the_check(name):
    try:
        inspect_recipe(
            read_recipe(HOST / "configs" / name),
            CPU,
            input_shape=(3, CONFIGS[name], CONFIGS[name]),
            batch_size=4,
            random_weights=True,
            seconds=0,
        )
    except RecipeError as error:
        if NO_NETWORK in str(error):
            pytest.skip(NO_NETWORK)
        assert BROKEN.get(name, "a sound config is refused") in str(error)
    else:
        assert name not in BROKEN


@pytest.mark.skipif(not CONFIGS, reason="TORCHDISTILL_REPO names no checkout")
def test_configs_of_the_old_format_are_told_in_one_line():
    old = sorted(HOST.glob("configs/legacy/*/[ci][il]*/**/*.yaml"))
    assert old
    for file in old:
        with pytest.raises(RecipeError, match=r"before 0\.4") as error:
            inspect_recipe(read_recipe(file), CPU)
        assert len(error.value.lines()) == 1
