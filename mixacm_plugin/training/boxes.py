"""The host's boxes: their models, their stages, and several processes around them."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DistributedSampler, Subset
from torchdistill.common.main_util import is_main_process
from torchdistill.common.module_util import get_full_state_dict
from torchdistill.core.distillation import DistillationBox
from torchdistill.core.training import TrainingBox
from torchdistill.datasets.util import build_data_loader
from torchdistill.models.wrapper import AuxiliaryModelWrapper

from ..common.checkpoints import save_checkpoint
from ..common.state import rng_state, set_rng_state
from ..reading.sections import Config, current_stage, get, stage_sections

Box: TypeAlias = DistillationBox | TrainingBox
FIND_UNUSED = "wrapper.kwargs.find_unused_parameters"  # of a recipe's student
PROCESSES = ("pre_epoch_process", "post_forward_process", "post_epoch_process")


def _model_names(box: Box) -> dict[str, str]:
    """Name of each role's model among a box's attributes."""
    if isinstance(box, DistillationBox):
        return {"student": "student_model", "teacher": "teacher_model"}
    return {"student": "model"}


def student_of(box: Box) -> nn.Module:
    """Return the model that a box trains."""
    return models_of(box)["student"]


def models_of(box: Box) -> dict[str, nn.Module]:
    """Return a box's models by role, in the wrappers that the recipe puts around them."""
    return {role: getattr(box, name) for role, name in _model_names(box).items()}


def terms_of(criterion: nn.Module) -> dict[str, tuple[nn.Module, float]]:
    """Return the terms of the host's loss, each with its weight, by name; none if it is no sum."""
    terms: dict[str, tuple[nn.Module, float]] = getattr(criterion, "term_dict", {})
    return terms


def optimised(box: Box) -> list[nn.Parameter]:
    """Return what a box's optimiser trains."""
    return [p for group in box.optimizer.param_groups for p in group["params"]]


def forward_process_names(box: Box) -> list[str]:
    """Names of the forward processes among a box's attributes."""
    names = (f"{role}_forward_proc" for role in ("student", "teacher", "model"))
    return [name for name in names if hasattr(box, name)]


def stage_processes(box: Box) -> dict[str, Any]:
    """Return the processes around the epochs and steps of a box's stage, by name.

    The host keeps those of all boxes in one place, the class that those with stages come from.
    """
    return {name: vars(_class_of(box))[name] for name in PROCESSES}


def set_stage_processes(box: Box, processes: Mapping[str, Any]) -> None:
    """Let a box have its stage's processes, where another one may have got its own since."""
    for name, process in processes.items():
        setattr(_class_of(box), name, process)


def _class_of(box: Box) -> type[Box]:
    return DistillationBox if isinstance(box, DistillationBox) else TrainingBox


def processes_of(box: Box) -> list[Any]:
    """Return the recipe's processes of a box, or the objects whose methods they are."""
    processes = [getattr(box, name) for name in forward_process_names(box)]
    processes += [stage_processes(box)[name] for name in PROCESSES[1:]]
    owners = [getattr(process, "__self__", process) for process in processes]
    return list({id(owner): owner for owner in owners}.values())


def rng_of(box: Box) -> dict[str, Any]:
    """Return the state of all generators, also of those that a recipe gives to its loaders."""
    return {**rng_state(), "loaders": [own.get_state() for own in _generators_of(box)]}


def set_rng_of(box: Box, state: dict[str, Any]) -> None:
    """Put all generators back into a state from ``rng_of``, in the same stage."""
    set_rng_state(state)
    # Earlier checkpoints have none, those of other settings not as many.
    for own, kept in zip(_generators_of(box), state.get("loaders", []), strict=False):
        own.set_state(kept)


def _generators_of(box: Box) -> list[torch.Generator]:
    """Generators of a box's loaders and their samplers, each once."""
    owners: list[Any] = []
    for loader in (box.train_data_loader, box.val_data_loader):
        batches = getattr(loader, "batch_sampler", None)
        samplers = (getattr(loader, "sampler", None), getattr(batches, "sampler", None))
        owners += [loader, batches, *samplers]
    found = [getattr(owner, "generator", None) for owner in owners]
    return list({id(own): own for own in found if isinstance(own, torch.Generator)}.values())


def without_ddp(model: nn.Module) -> nn.Module:
    """Return the model that is wrapped for several processes, or the model itself."""
    return model.module if isinstance(model, DistributedDataParallel) else model


@contextmanager
def stand_ins(box: Box) -> Iterator[None]:
    """Give a box copies of what keeps a state over steps, and no process to wait for, for a while.

    Copies are of the loss, which may have a memory, and of forward processes that are methods of
    an object, as in free adversarial training.
    """
    kept = {name: getattr(box, name) for name in ("criterion", *forward_process_names(box))}
    copies = copy.deepcopy(kept)
    for name in _model_names(box).values():
        kept[name] = getattr(box, name)
        copies[name] = without_ddp(kept[name])
    try:
        for name, stand_in in copies.items():
            setattr(box, name, stand_in)
        yield
    finally:
        for name, original in kept.items():
            setattr(box, name, original)


class _NoDevices(list[int]):
    """No devices, and yet a first one, which the host's wrappers name where they load a file."""

    def __getitem__(self, index: Any) -> Any:
        return 0


def device_ids(device: torch.device) -> list[int]:
    """Return what the host takes for the devices of this process's models.

    Without one a single process's model would be spread over all GPUs.
    """
    if device.type != "cuda":
        return _NoDevices()
    return [torch.cuda.current_device() if device.index is None else device.index]


def skip_stage(box: Box) -> None:
    """Go on to a box's next stage without having trained this one: nothing is written."""
    kept = box.save_stage_ckpt
    box.save_stage_ckpt = lambda *_: None
    try:
        box.advance_to_next_stage()
    finally:
        box.save_stage_ckpt = kept


def seed_sampler(box: Box, seed: int | None) -> None:
    """Let the order of training images in several processes depend on a seed, if there is one."""
    sampler = getattr(box.train_data_loader.batch_sampler, "sampler", None)
    if seed is not None and isinstance(sampler, DistributedSampler):
        sampler.seed = seed


def save_stage(model: nn.Module, part: Config) -> None:
    """Write a model's checkpoint at the end of a stage, in the host's place, all or nothing of it.

    Args:
        model: in its wrappers.
        part: of the recipe, which names the file if there is to be one.

    Raises:
        UserError: if it can't be written.
    """
    if part.get("dst_ckpt") is not None and is_main_process():
        save_checkpoint(part["dst_ckpt"], get_full_state_dict(model))


def distribute(box: Box, config: Config, seed: int | None) -> None:
    """Do for a box in one of several processes, at the beginning of a stage, what the host doesn't.

    The student is wrapped for distributed training, whatever the device. All processes begin with
    the first one's weights, also of what a wrapper reads from a file of its own. Each validation
    image is looked at once, where the host's sampler repeats some so that all processes have as
    many. The order of training images depends on the seed.

    Args:
        box: as the host set it up.
        config: the built recipe.
        seed: of the training; None leaves the host's.
    """
    student = student_of(box)
    _, stage = current_stage(config, box)
    trained = [p.requires_grad for p in student.parameters()]
    if any(trained) and not isinstance(student, DistributedDataParallel | AuxiliaryModelWrapper):
        given = get(stage, f"{stage_sections(config)['student']}.wrapper.kwargs") or {}
        kwargs = {"find_unused_parameters": not all(trained), **given}
        setattr(box, _model_names(box)["student"], DistributedDataParallel(student, **kwargs))
    for model in models_of(box).values():
        for value in (*model.parameters(), *model.buffers()):
            dist.broadcast(value.detach(), 0)
    seed_sampler(box, seed)
    loader = stage.get("val_data_loader")
    if loader is not None:
        dataset = box.dataset_dict[loader["dataset_id"]]
        own = Subset(dataset, range(dist.get_rank(), len(dataset), dist.get_world_size()))
        box.val_data_loader = build_data_loader(own, loader, distributed=False)
