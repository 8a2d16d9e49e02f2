"""The host's boxes: their models, their stages, and several processes around them."""

import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DistributedSampler, Subset
from torchdistill.core.distillation import DistillationBox
from torchdistill.core.training import TrainingBox
from torchdistill.datasets.util import build_data_loader
from torchdistill.models.wrapper import AuxiliaryModelWrapper

from .sections import Config, current_stage

Box = DistillationBox | TrainingBox


def student_of(box: Box) -> nn.Module:
    """Return the model that a box trains."""
    return box.student_model if isinstance(box, DistillationBox) else box.model


def models_of(box: Box) -> dict[str, nn.Module]:
    """Return a box's models by role, in the wrappers that the recipe puts around them."""
    models = {"student": student_of(box)}
    return {**models, "teacher": box.teacher_model} if isinstance(box, DistillationBox) else models


def skip_stage(box: Box) -> None:
    """Go on to a box's next stage without having trained this one: nothing is written."""
    box.save_stage_ckpt = lambda *_: None
    try:
        box.advance_to_next_stage()
    finally:
        del box.save_stage_ckpt


def distribute(box: Box, config: Config, seed: int | None) -> None:
    """Do for a box in one of several processes, at the beginning of a stage, what the host doesn't.

    On CPUs the student is wrapped for distributed training. Each validation image is looked at
    once, where the host's sampler repeats some so that all processes have as many. The order of
    training images depends on the seed.

    Args:
        box: as the host set it up.
        config: the built recipe.
        seed: of the training; None leaves the host's.
    """
    student = student_of(box)
    trained = [p.requires_grad for p in student.parameters()]
    if any(trained) and not isinstance(student, DistributedDataParallel | AuxiliaryModelWrapper):
        name = "student_model" if isinstance(box, DistillationBox) else "model"
        wrapped = DistributedDataParallel(student, find_unused_parameters=not all(trained))
        setattr(box, name, wrapped)
    sampler = box.train_data_loader.batch_sampler.sampler
    if seed is not None and isinstance(sampler, DistributedSampler):
        sampler.seed = seed
    _, stage = current_stage(config, box)
    loader = stage.get("val_data_loader")
    if loader is not None:
        dataset = box.dataset_dict[loader["dataset_id"]]
        own = Subset(dataset, range(dist.get_rank(), len(dataset), dist.get_world_size()))
        box.val_data_loader = build_data_loader(own, loader, distributed=False)
