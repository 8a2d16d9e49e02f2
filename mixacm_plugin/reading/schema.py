"""The schema: every key of a recipe that torchdistill 1.1 or this package reads, in one table."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from torch import nn
from torchdistill.core.interfaces import registry as processes
from torchdistill.datasets import registry as datasets
from torchdistill.losses import registry as losses
from torchdistill.models import registry as models
from torchdistill.models.official import OFFICIAL_MODEL_DICT
from torchdistill.optim import registry as optim

from ..common.errors import nearest
from ..common.values import CALLABLE, COUNT, FILE, MAPPING, NAME, NAMES, NATURAL, NUMBER, Kind


class Registry(NamedTuple):
    """Where a name is looked up: what it names, and the names there are at the moment."""

    what: str
    names: Callable[[], Collection[str]]


@dataclass(frozen=True)
class Key:
    """What may stand under a key.

    Args:
        kind: of the value; ``None`` for any.
        registry: where the value is looked up.
        keys: that the value, a mapping, may have; ``None`` where nothing looks at them by name, as
            in ``kwargs``, which are their constructor's business.
        required: whether it has to be there, if what it belongs to is.
    """

    kind: Kind | None = None
    registry: Registry | None = None
    keys: "Keys | None" = None
    required: bool = False


Keys = Mapping[str, Key]
ANY = "*"  # every other name

CRITERION = Kind(
    "a mapping with key and kwargs, or a loss module",
    lambda value: isinstance(value, Mapping | nn.Module),
)


def _section(required: bool = False, kind: Kind = MAPPING, /, **keys: Key) -> Key:
    return Key(kind, keys=keys, required=required)


def _name(what: str, names: Callable[[], Collection[str]], *, required: bool = False) -> Key:
    return Key(NAME, Registry(what, names), required=required)


def _any(names: str) -> dict[str, Key]:
    return dict.fromkeys(names.split(), Key())


def model_names() -> set[str]:
    """Names of registered models and torchvision's: the callables in lower case there."""
    official = {n for n, m in OFFICIAL_MODEL_DICT.items() if n.islower() and callable(m)}
    return official | set(models.MODEL_DICT)


def loss_names() -> set[str]:
    """Names of the losses that a sub-term may have."""
    return {*losses.LOSS_DICT, *losses.LOW_LEVEL_LOSS_DICT, *losses.MIDDLE_LEVEL_LOSS_DICT}


def not_registered(what: str, name: str, names: Collection[str]) -> str:
    """Say that a name isn't registered, and which it may be meant to be."""
    hint = nearest(name, names) or " Does 'dependencies' name the package that registers it?"
    return f"no {what} {name!r} is registered.{hint}"


ARGS, KWARGS = Key(), Key(MAPPING)
NEEDED, NEEDED_KWARGS = Key(required=True), Key(MAPPING, required=True)

LOADER = _section(
    dataset_id=NEEDED,
    requires_supp=Key(),
    collate_fn=_name("collate function", lambda: datasets.COLLATE_FUNC_DICT),
    kwargs=NEEDED_KWARGS,
    sampler=_section(True, class_or_func=Key(CALLABLE), kwargs=KWARGS),
    batch_sampler=_section(
        key=_name("batch sampler", lambda: datasets.BATCH_SAMPLER_DICT), kwargs=KWARGS
    ),
    dataset_wrapper=_section(
        key=_name("dataset wrapper", lambda: datasets.DATASET_WRAPPER_DICT),
        args=ARGS,
        kwargs=KWARGS,
    ),
)
MODEL = _section(
    key=Key(NAME, required=True),  # registered, unless it comes from repo_or_dir: see checks
    kwargs=NEEDED_KWARGS,
    src_ckpt=Key(FILE),
    dst_ckpt=Key(FILE),
    **_any("repo_or_dir quantized sync_bn"),
)
STUDENTS = ("student_model", "model")
PERCENT = Kind("per cent, from 0 to 100", lambda v: NUMBER.holds(v) and 0 <= v <= 100)
TEACHER = Key(MAPPING, keys={**(MODEL.keys or {}), "expected_accuracy": Key(PERCENT)})
REDESIGN: Keys = {
    "sequential": Key(NAMES),
    "frozen_modules": Key(NAMES),
    "adaptations": Key(keys={ANY: Key(keys=_any("key kwargs"))}),
}
ROLE = _section(  # teacher, student or model of a stage
    forward_proc=_name("forward process", lambda: processes.FORWARD_PROC_FUNC_DICT),
    src_ckpt=Key(FILE),
    dst_ckpt=Key(FILE),
    forward_hook=_section(input=Key(NAMES), output=Key(NAMES)),
    auxiliary_model_wrapper=_section(
        key=_name("auxiliary model wrapper", lambda: models.AUXILIARY_MODEL_WRAPPER_DICT),
        kwargs=KWARGS,
        **REDESIGN,
    ),
    wrapper=Key(keys=_any("key kwargs")),
    **REDESIGN,
    **_any("requires_grad keep_train_mode"),
)
ROLES: Keys = dict.fromkeys(("teacher", "student", "model"), ROLE)
TERM = _section(
    weight=Key(NUMBER, required=True),
    criterion=_section(
        True, CRITERION, key=_name("loss", loss_names, required=True), kwargs=KWARGS
    ),
    criterion_wrapper=_section(
        key=_name("loss wrapper", lambda: losses.LOSS_WRAPPER_DICT), args=ARGS, kwargs=KWARGS
    ),
)
MODULE_WISE = Key(keys={ANY: Key(keys=_any("module is_teacher kwargs"))})
STAGE: Keys = {
    "num_epochs": Key(COUNT, required=True),
    "log_freq": Key(),
    "train_data_loader": LOADER,
    "val_data_loader": LOADER,
    "pre_epoch_process": _name("pre-epoch process", lambda: processes.PRE_EPOCH_PROC_FUNC_DICT),
    "pre_forward_process": _name(
        "pre-forward process", lambda: processes.PRE_FORWARD_PROC_FUNC_DICT
    ),
    "post_forward_process": _name(
        "post-forward process", lambda: processes.POST_FORWARD_PROC_FUNC_DICT
    ),
    "post_epoch_process": _name("post-epoch process", lambda: processes.POST_EPOCH_PROC_FUNC_DICT),
    **ROLES,
    "criterion": _section(
        True,
        key=_name("high-level loss", lambda: losses.HIGH_LEVEL_LOSS_DICT, required=True),
        args=ARGS,
        kwargs=_section(
            sub_terms=_section(**{ANY: TERM}),
            model_term=Key(keys=_any("weight")),
            **{ANY: Key()},
        ),
        func2extract_model_loss=_name(
            "function that extracts the model's loss", lambda: losses.FUNC2EXTRACT_MODEL_OUTPUT_DICT
        ),
    ),
    "optimizer": _section(
        key=_name("optimizer", lambda: optim.OPTIM_DICT, required=True),
        kwargs=NEEDED_KWARGS,
        filters_params=Key(),
        grad_accum_step=Key(COUNT),
        max_grad_norm=Key(NUMBER),
        module_wise_kwargs=MODULE_WISE,  # without a teacher, and with one
        module_wise_configs=MODULE_WISE,
    ),
    "scheduler": _section(
        key=_name("scheduler", lambda: optim.SCHEDULER_DICT, required=True),
        kwargs=NEEDED_KWARGS,
        scheduling_step=Key(NATURAL),
    ),
}
TAGS: Mapping[str, Keys] = {
    "!import_get": _any("key package"),
    "!import_call": {**_any("key package"), "init": Key(keys=_any("args kwargs"))},
    "!import_call_method": {
        **_any("package class_name method_name"),
        "init": Key(keys=_any("args kwargs")),
    },
}


def recipe_keys(stages: Collection[str]) -> Keys:
    """Return the keys of a whole recipe.

    Args:
        stages: names of the stages under ``train``; none where ``train`` itself is the only one.
    """
    train: Keys = STAGE
    if stages:  # the host looks at the roles here too, when the next stage begins
        train = {"log_freq": Key(), **ROLES, **dict.fromkeys(stages, _section(True, **STAGE))}
    return {
        "dependencies": Key(),
        "datasets": KWARGS,
        "models": Key(MAPPING, keys={"teacher_model": TEACHER, **dict.fromkeys(STUDENTS, MODEL)}),
        "train": Key(MAPPING, keys=train),
        "test": Key(
            MAPPING, keys={"log_freq": Key(), "test_data_loader": Key(MAPPING, keys=LOADER.keys)}
        ),
    }
