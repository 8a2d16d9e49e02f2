"""What a recipe may well be meant to do, but most likely isn't: the host's traps, in words."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import nn
from torch.utils.data import SequentialSampler
from torchdistill.datasets.registry import get_collate_func

from ..common.checkpoints import load_checkpoint
from ..common.state_dicts import is_plain
from ..loading.models import brings_weights
from ..loading.shared_images import shared_by_loaders
from ..parts.mixup import MixupCollate
from ..reading import sections
from ..training.schedule import schedule_steps, stages_of_schedule

KD_LOSSES = ("KDLoss", "LogitStdKDLoss")
# Arguments that are the length of a whole schedule.
SCHEDULE_LENGTHS = ("T_max", "epochs", "total_steps")


def recipe_warnings(
    config: Mapping[str, Any],
    models: Mapping[str, nn.Module],
    steps_per_epoch: Sequence[int | None],
    *,
    random_weights: bool = False,
) -> Iterator[str]:
    """Yield what is likely to be wrong with a built recipe.

    Args:
        config: the built recipe, already accepted by ``checks.check_built``.
        models: the plain model of each role.
        steps_per_epoch: batches in an epoch of each stage; ``None`` if unknown.
        random_weights: whether checkpoints were left out on purpose.
    """
    if not random_weights:
        yield from _random_teacher(config)
        yield from _foreign_checkpoints(config, models)
    schedules = {}  # by the stage that each begins in
    for (path, stage), steps in zip(sections.stages(config), steps_per_epoch, strict=True):
        if under := stages_of_schedule(config, path):
            schedules[under[0][0]] = (under, steps)
        for where, term in sections.terms(stage, path):
            yield from _kd_weights(where, term)
            yield from _labels_weigh_more(where, term)
            yield from _negative_weight(where, term)
        yield from _defaults(path, stage)
        yield from _tested_images(path, stage, config)
        yield from _mixup_order(path, stage)
    for stages, steps in schedules.values():
        yield from _schedule(stages, steps)


def _random_teacher(config: Mapping[str, Any]) -> Iterator[str]:
    path = sections.model_sections(config).get("teacher")
    section = sections.get(config, path) if path else None
    if section is None or section.get("src_ckpt") or brings_weights(section):
        return
    if sections.stage_checkpoint(config) is None:
        yield f"{path}: no src_ckpt, so the teacher's weights are random"


def _foreign_checkpoints(
    config: Mapping[str, Any], models: Mapping[str, nn.Module]
) -> Iterator[str]:
    for role, path in sections.model_sections(config).items():
        source = sections.get(config, f"{path}.src_ckpt")
        if source and not is_plain(load_checkpoint(source), models[role].state_dict()):
            yield (
                f"{path}.src_ckpt: the host's own script reads the file as it is, without opening "
                f"{source} or stripping prefixes as this package does"
            )


def _kd_weights(where: str, term: Mapping[str, Any]) -> Iterator[str]:
    key, kwargs = sections.get(term, "criterion.key"), sections.get(term, "criterion.kwargs") or {}
    if kwargs.get("alpha") == 0 and kwargs.get("temperature") == kwargs.get("beta", 1) == 1:
        return  # nothing is dropped
    if key in KD_LOSSES and not kwargs.get("alpha"):
        beta = kwargs.get("beta", "1 - alpha")
        yield (
            f"{where}.criterion.kwargs.alpha: with {kwargs.get('alpha')} the host's {key} is the "
            f"bare KL divergence, without beta ({beta}) and temperature² "
            f"({kwargs.get('temperature')}²); give a small alpha, or put them into weight"
        )
    for name in ("alpha", "beta") if key == "KDLoss" else ():  # logit standardisation takes 9
        if (kwargs.get(name) or 0) > 1:
            yield f"{where}.criterion.kwargs.{name}: {kwargs[name]}; it weights a part, of 0 to 1"


def _labels_weigh_more(where: str, term: Mapping[str, Any]) -> Iterator[str]:
    kwargs = sections.get(term, "criterion.kwargs") or {}
    alpha, beta = kwargs.get("alpha"), kwargs.get("beta")
    if sections.get(term, "criterion.key") == "KDLoss" and alpha and beta and alpha > beta:
        yield (
            f"{where}.criterion.kwargs.alpha: {alpha}, so that labels weigh more than the teacher, "
            f"who has beta: {beta}; the paper's α_kld is beta"
        )


def _negative_weight(where: str, term: Mapping[str, Any]) -> Iterator[str]:
    if term["weight"] < 0:
        key = sections.get(term, "criterion.key")
        yield f"{where}.weight: {term['weight']}, so {key} is made as large as it can be"


def _tested_images(path: str, stage: Mapping[str, Any], config: Mapping[str, Any]) -> Iterator[str]:
    tested = config["test"]["test_data_loader"]
    train, val = (sections.get(stage, f"{name}_data_loader") for name in ("train", "val"))
    uses = {"train": "trained on", "val": "the best checkpoint is chosen by them"}
    for loader, (name, use) in zip((train, val), uses.items(), strict=True):
        where = f"{path}.{name}_data_loader.dataset_id"
        if sections.get(loader, "dataset_id") == tested["dataset_id"]:
            yield f"{where}: {tested['dataset_id']} are the test images, too: {use}"
        elif told := shared_by_loaders(tested, loader, config):
            yield f"{where}: {told} are in {loader['dataset_id']}, too: {use}"
    if told := shared_by_loaders(val, train, config):
        yield f"{path}.val_data_loader.dataset_id: {told} are trained on, too"


def _defaults(path: str, stage: Mapping[str, Any]) -> Iterator[str]:
    """Tell of what few would leave to a default."""
    optimiser = stage.get("optimizer") or {}
    if optimiser and "lr" not in optimiser["kwargs"] and "module_wise" not in str(optimiser):
        yield f"{path}.optimizer.kwargs: no lr, so it is the default of {optimiser['key']}"
    for name in ("train_data_loader", "val_data_loader"):
        loader = stage.get(name) or {}
        if loader and not loader.get("batch_sampler") and "batch_size" not in loader["kwargs"]:
            yield f"{path}.{name}.kwargs: no batch_size, so a batch is one image"


def _schedule(
    stages: Sequence[tuple[str, Mapping[str, Any]]], steps_per_epoch: int | None
) -> Iterator[str]:
    path, scheduler = stages[0][0], stages[0][1]["scheduler"]
    kwargs = scheduler.get("kwargs") or {}
    epochs, unit = sum(stage["num_epochs"] for _, stage in stages), "epochs"
    every = scheduler.get("scheduling_step", 0)
    if every:
        if steps_per_epoch is None:
            return
        unit = f"steps ({epochs} epochs)"
    steps = sum(schedule_steps(stage, steps_per_epoch or 0, every) for _, stage in stages)
    what = "the stage" if len(stages) == 1 else f"the stages until {stages[-1][0]}"
    where = f"{path}.scheduler.kwargs"
    per_epoch = kwargs.get("steps_per_epoch", 1)
    for name in SCHEDULE_LENGTHS:
        length = kwargs.get(name)
        if length is not None and length * (per_epoch if name == "epochs" else 1) != steps:
            yield f"{where}.{name}: the schedule is {length} long, {what} {steps} {unit}"
    late = [m for m in kwargs.get("milestones", ()) if m >= steps]
    if late:
        yield f"{where}.milestones: {late} are never reached in {steps} {unit}"


def _mixup_order(path: str, stage: Mapping[str, Any]) -> Iterator[str]:
    loader = stage.get("train_data_loader") or {}
    in_order = sections.get(loader, "sampler.class_or_func") is SequentialSampler
    collate = get_collate_func(loader.get("collate_fn"))
    if in_order and isinstance(collate, MixupCollate) and collate.mixup is not None:
        yield (
            f"{path}.train_data_loader.sampler: mixup mixes neighbours in a batch, and the sampler "
            "keeps their order; use torch.utils.data.RandomSampler"
        )
