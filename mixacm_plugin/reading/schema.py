"""The schema: every key of a recipe that torchdistill 1.1 or this package reads, in one table."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from torch import nn
from torch.utils.data import DataLoader
from torchdistill.core.interfaces import registry as processes
from torchdistill.datasets import registry as datasets
from torchdistill.losses import registry as losses
from torchdistill.models import registry as models
from torchdistill.models.official import OFFICIAL_MODEL_DICT
from torchdistill.optim import registry as optim
from torchvision.models import list_models

from ..common.errors import nearest
from ..common.values import (
    CALLABLE,
    COUNT,
    DECAY,
    FILE,
    FINITE,
    MAPPING,
    NAME,
    NAMES,
    NATURAL,
    NUMBER,
    POSITIVE,
    SWITCH,
    Kind,
)
from ..parts.computed import PRECISIONS
from .arguments import Arguments, arguments_of
from .keys import ANY, Key, Keys, any_of, name_of, section

CRITERION = Kind(
    "a mapping with key and kwargs, or a loss module",
    lambda value: isinstance(value, Mapping | nn.Module),
)


class ModelNames(set[str]):
    """Names of models; those that the registry knows without listing them are there as well."""

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or name in models.MODEL_DICT


def model_names() -> ModelNames:
    """Names of registered models and torchvision's: what builds one there, not what lists them."""
    official = set(OFFICIAL_MODEL_DICT) & set(list_models())
    return ModelNames(official | set(models.MODEL_DICT))


def sub_term_losses() -> Mapping[str, Callable[..., Any]]:
    """Losses that a sub-term may have, by name; where two have it, the one that the host takes."""
    return {
        **losses.LOW_LEVEL_LOSS_DICT,
        **losses.LOSS_DICT,
        **losses.MIDDLE_LEVEL_LOSS_DICT,
    }


def not_registered(what: str, name: str, names: Collection[str]) -> str:
    """Say that a name isn't registered, and which it may be meant to be."""
    hint = nearest(name, names) or " Does 'dependencies' name the package that registers it?"
    return f"no {what} {name!r} is registered.{hint}"


ARGS, KWARGS = Key(), Key(MAPPING)
NEEDED, NEEDED_KWARGS = Key(required=True), Key(MAPPING, required=True)

LOADER = section(
    dataset_id=NEEDED,
    requires_supp=Key(),
    collate_fn=name_of("collate function", lambda: datasets.COLLATE_FUNC_DICT),
    kwargs=Key(MAPPING, keys=arguments_of(DataLoader), required=True),
    sampler=section(True, class_or_func=Key(CALLABLE), kwargs=KWARGS),
    batch_sampler=section(
        key=name_of("batch sampler", lambda: datasets.BATCH_SAMPLER_DICT), kwargs=KWARGS
    ),
    dataset_wrapper=section(
        key=name_of("dataset wrapper", lambda: datasets.DATASET_WRAPPER_DICT),
        args=ARGS,
        kwargs=KWARGS,
    ),
)
MODEL = section(
    key=Key(NAME, required=True),  # registered, unless it comes from repo_or_dir: see checks
    kwargs=NEEDED_KWARGS,
    src_ckpt=Key(FILE),
    dst_ckpt=Key(FILE),
    **any_of("repo_or_dir quantized sync_bn"),
)
STUDENTS = ("student_model", "model")
# A fraction is most likely meant as one: 0.99, which would expect nothing.
PERCENT = Kind(
    "per cent, 0 or from 1 to 100", lambda v: NUMBER.holds(v) and (v == 0 or 1 <= v <= 100)
)
TEACHER = Key(MAPPING, keys={**(MODEL.keys or {}), "expected_accuracy": Key(PERCENT)})
REDESIGN: Keys = {
    "sequential": Key(NAMES),
    "frozen_modules": Key(NAMES),
    "adaptations": Key(keys={ANY: Key(keys=any_of("key kwargs"))}),
}
ROLE = section(  # teacher, student or model of a stage
    forward_proc=name_of("forward process", lambda: processes.FORWARD_PROC_FUNC_DICT),
    src_ckpt=Key(FILE),
    dst_ckpt=Key(FILE),
    forward_hook=section(input=Key(NAMES), output=Key(NAMES)),
    auxiliary_model_wrapper=section(
        key=name_of("auxiliary model wrapper", lambda: models.AUXILIARY_MODEL_WRAPPER_DICT),
        kwargs=KWARGS,
        **REDESIGN,
    ),
    wrapper=Key(keys=any_of("key kwargs")),
    **REDESIGN,
    requires_grad=Key(SWITCH),
    keep_train_mode=Key(SWITCH),
)
ROLES: Keys = dict.fromkeys(("teacher", "student", "model"), ROLE)
TERM = section(
    weight=Key(FINITE, required=True),
    criterion=section(
        True, CRITERION, key=name_of("loss", sub_term_losses, required=True), kwargs=NEEDED_KWARGS
    ),
    criterion_wrapper=section(
        key=name_of("loss wrapper", lambda: losses.LOSS_WRAPPER_DICT), args=ARGS, kwargs=KWARGS
    ),
)
MODULE_WISE = Key(
    Kind("a list of mappings", lambda value: isinstance(value, list)),
    keys={ANY: section(module=Key(NAME, required=True), **any_of("is_teacher kwargs"))},
)
STAGE: Keys = {
    "num_epochs": Key(COUNT, required=True),
    "log_freq": Key(COUNT),
    "train_data_loader": LOADER,
    "val_data_loader": LOADER,
    "pre_epoch_process": name_of("pre-epoch process", lambda: processes.PRE_EPOCH_PROC_FUNC_DICT),
    "pre_forward_process": name_of(
        "pre-forward process", lambda: processes.PRE_FORWARD_PROC_FUNC_DICT
    ),
    "post_forward_process": name_of(
        "post-forward process", lambda: processes.POST_FORWARD_PROC_FUNC_DICT
    ),
    "post_epoch_process": name_of(
        "post-epoch process", lambda: processes.POST_EPOCH_PROC_FUNC_DICT
    ),
    **ROLES,
    "criterion": section(
        True,
        key=name_of("high-level loss", lambda: losses.HIGH_LEVEL_LOSS_DICT, required=True),
        args=ARGS,
        kwargs=section(
            sub_terms=section(**{ANY: TERM}),
            model_term=Key(keys=any_of("weight")),
        ),
        func2extract_model_loss=name_of(
            "function that extracts the model's loss", lambda: losses.FUNC2EXTRACT_MODEL_OUTPUT_DICT
        ),
    ),
    "optimizer": section(
        key=name_of("optimizer", lambda: optim.OPTIM_DICT, required=True),
        kwargs=NEEDED_KWARGS,
        filters_params=Key(SWITCH),
        grad_accum_step=Key(COUNT),
        max_grad_norm=Key(POSITIVE),
        module_wise_kwargs=MODULE_WISE,  # without a teacher, and with one
        module_wise_configs=MODULE_WISE,
    ),
    "scheduler": section(
        key=name_of("scheduler", lambda: optim.SCHEDULER_DICT, required=True),
        kwargs=NEEDED_KWARGS,
        scheduling_step=Key(NATURAL),
    ),
}
VALIDATE = section(  # of ours; the host ignores it
    attack=Key(NAME, required=True),
    **any_of(ANY),  # the attack's settings, which it checks itself
    **dict.fromkeys(("n", "every", "patience"), Key(COUNT)),
)
EMA = Key(  # likewise
    MAPPING,
    keys=Arguments("ema", {"decay": Key(DECAY, required=True), "start_epoch": Key(NATURAL)}),
)
COMPUTE = Key(
    MAPPING,
    keys=Arguments(
        "compute",
        {
            "precision": Key(Kind(" or ".join(PRECISIONS), lambda value: value in PRECISIONS)),
            "channels_last": Key(SWITCH),
            "compile": Key(SWITCH),
        },
    ),
)
TAGS: Mapping[str, Keys] = {
    "!import_get": any_of("key package"),
    "!import_call": {**any_of("key package"), "init": Key(keys=any_of("args kwargs"))},
    "!import_call_method": {
        **any_of("package class_name method_name"),
        "init": Key(keys=any_of("args kwargs")),
    },
}


def recipe_keys(stages: Collection[str]) -> Keys:
    """Return the keys of a whole recipe.

    Args:
        stages: names of the stages under ``train``; none where ``train`` itself is the only one.
    """
    following = {f"stage{len(stages) + 1}": Key()}  # so that a misspelt one is like it
    train = {**STAGE, **following}
    if stages:  # the host looks at the roles here too, when the next stage begins
        each = dict.fromkeys(stages, section(True, **STAGE))
        train = {"log_freq": Key(COUNT), **ROLES, **each, **following}
    return {
        "dependencies": Key(),
        "datasets": KWARGS,
        "models": Key(MAPPING, keys={"teacher_model": TEACHER, **dict.fromkeys(STUDENTS, MODEL)}),
        "compute": COMPUTE,
        "train": Key(MAPPING, keys=train),
        "validate": VALIDATE,
        "ema": EMA,
        "test": Key(
            MAPPING,
            keys={"log_freq": Key(COUNT), "test_data_loader": Key(MAPPING, keys=LOADER.keys)},
        ),
    }
