"""Rules across a recipe's keys, and what its losses refuse."""

from collections.abc import Iterator, Mapping

from torch import nn, optim
from torchdistill.losses.registry import get_mid_level_loss

from ..common.errors import RecipeError, nearest, raise_all
from ..common.state import preserved_rng
from ..common.values import NUMBER, WEIGHT
from ..parts.acm.pairs import SIDES, PairError
from ..parts.models.normalization import eclipsed
from .arguments import IO
from .nodes import Problem, Unbuilt, plain
from .recipe import Recipe
from .schema import model_names, not_registered
from .sections import (
    Config,
    get,
    model_sections,
    stage_names,
    stage_sections,
    stages,
    terms,
    told,
)
from .validation import Validation, validate, validate_built

PARTS = ("datasets", "models", "train", "test")
MODULE_WISE = {"module_wise_kwargs": False, "module_wise_configs": True}  # with a teacher?
DEFAULT_PRE_FORWARD = "default_pre_forward_process"  # which does nothing
KEEP_EVAL = ("keep_teacher_in_eval", "FrozenTeacher")
WITH_TEACHER = ("keep_teacher_in_eval", "default_pre_epoch_process_with_teacher")


def check_yaml(recipe: Recipe) -> list[str]:
    """Check all that a recipe's YAML shows, with nothing constructed.

    Returns:
        A warning for each key that nothing reads.

    Raises:
        RecipeError: on every mistake at once; one that follows from another is left out.
    """
    if _predates_todays_format(plain(recipe.root)):
        raise recipe.error(
            "models",
            "this is a config for torchdistill before 0.4 (name and params, where 1.1 reads key "
            "and kwargs); start from the host's config of today, or a recipe of mixacm recipes",
        )
    found = Validation()
    sound = validate(recipe, found)
    found.problems += across(sound)
    raise_all(_errors(recipe, found))
    return [*found.warnings, *_ignored(sound)]


def _ignored(config: Config) -> Iterator[str]:
    """Tell of the keys that the host reads elsewhere only, or that nothing calls."""
    if not isinstance(config["models"], Mapping):
        return
    with_teacher = "teacher" in model_sections(config)
    for path, stage in stages(config):
        for key, needs_teacher in MODULE_WISE.items():
            if told(stage, f"optimizer.{key}") and needs_teacher is not with_teacher:
                other = next(name for name in MODULE_WISE if name != key)
                yield f"{path}.optimizer.{key}: the host ignores it here, and reads {other} instead"
        if told(stage, "pre_forward_process") not in (None, DEFAULT_PRE_FORWARD):
            yield (
                f"{path}.pre_forward_process: nobody calls it, nor does the host's own script; a "
                "forward_proc of your own can do as much"
            )
    yield from _misplaced(config)


def _misplaced(config: Config) -> Iterator[str]:
    """Tell of what is a stage's and stands above the stages, and the other way round."""
    names = [f"train.{name}" for name in stage_names(config["train"])]
    for section in stage_sections(config).values():
        for path, stage in stages(config):
            if told(stage, f"{section}.dst_ckpt") is not None:
                yield (
                    f"{path}.{section}.dst_ckpt: the host ignores it here; where there are stages "
                    f"it writes the file of train.{section}.dst_ckpt after each but the last"
                )
        above = get(config, f"train.{section}") if names else None
        for key, value in above.items() if isinstance(above, Mapping) else ():
            # It may be where the stages' own values have their anchor.
            elsewhere = all(get(config, f"{name}.{section}.{key}") == value for name in names)
            if key != "dst_ckpt" and not elsewhere:
                yield f"train.{section}.{key}: the host ignores it here; write it into each stage"


def _predates_todays_format(config: Config) -> bool:
    models = config.get("models")
    return isinstance(models, Mapping) and any(
        isinstance(model, Mapping) and "key" not in model and {"name", "params"} <= model.keys()
        for model in models.values()
    )


def check_built(recipe: Recipe, config: Config) -> None:
    """Check a recipe again now that its tags have made their values, then what takes them.

    Raises:
        RecipeError: on every mistake at once.
    """
    found = Validation()
    sound = validate_built(config, found)
    found.problems += across(sound)
    if not found.problems:
        found.problems += losses(config)
    raise_all(_errors(recipe, found))


def check_part(recipe: Recipe, config: Config) -> None:
    """Check some of a built recipe's sections, as ``evaluate`` needs them, by themselves.

    Raises:
        RecipeError: on every mistake at once.
    """
    found = Validation()
    sound = validate_built(config, found)
    found.problems += [problem for path in config for problem in _missing(config, path)]
    if "models" in config:
        found.problems += _models(sound)
    raise_all(_errors(recipe, found))


def require(recipe: Recipe, config: Config, path: str) -> None:
    """Raise ``RecipeError`` if a built recipe has nothing at a key path."""
    raise_all([recipe.error(*problem) for problem in _missing(config, path)])


def _errors(recipe: Recipe, found: Validation) -> list[RecipeError]:
    return [recipe.error(*problem) for problem in found.problems]


def across(config: Config) -> Iterator[Problem]:
    """Yield what is wrong across a recipe's keys; what isn't told yet is passed over.

    Args:
        config: the recipe as plain values or built, held against the schema before.
    """
    missing = [problem for path in PARTS for problem in _missing(config, path)]
    yield from missing
    if missing or any(not isinstance(config[path], Mapping) for path in PARTS):
        return
    yield from _models(config)
    yield from _missing(config, "test.test_data_loader")
    yield from _dataset_id(config, "test.test_data_loader")
    if isinstance(get(config, model_sections(config)["student"]), Mapping):
        yield from _missing(config, f"{model_sections(config)['student']}.dst_ckpt")
    yield from _stages(config["train"])
    for number, (path, stage) in enumerate(stages(config)):
        if isinstance(stage, Mapping):
            yield from _parts_of_a_stage(config, path, first=number == 0)
            yield from _teacher(config, path)
            yield from _terms(config, path)


def _missing(config: Config, path: str) -> Iterator[Problem]:
    parent = path.rpartition(".")[0]
    there = get(config, parent) if parent else config
    if get(config, path) is None and not isinstance(there, Unbuilt):
        names = ", ".join(map(str, there)) if isinstance(there, Mapping) else ""
        has = f"; it has {names}" if names else ""
        empty = isinstance(there, Mapping) and path.rpartition(".")[2] in there
        yield path, "empty" if empty else f"missing from {parent or 'the recipe'}{has}"


def _models(config: Config) -> Iterator[Problem]:
    if not isinstance(config["models"], Mapping):
        return
    if all(get(config, f"models.{name}") is None for name in ("student_model", "model")):
        yield "models", "expected student_model (or model, without a teacher)"
    for path in model_sections(config).values():
        key, names = told(config, f"{path}.key"), model_names()
        hub = get(config, f"{path}.repo_or_dir")
        hidden = eclipsed(key, hub if isinstance(hub, str) else None)
        if key is not None and hub is None and key not in names:
            yield f"{path}.key", not_registered("model", key, names)
        elif hidden is not None and not told(config, f"{path}.quantized"):
            yield f"{path}.key", hidden


def _dataset_id(config: Config, loader: str) -> Iterator[Problem]:
    path, known = f"{loader}.dataset_id", config["datasets"]
    name = told(config, path)
    if name is not None and name not in list(known):  # a list, since it may not be hashable
        has = ", ".join(map(str, known))
        yield path, f"no dataset {name!r} under datasets; it has {has}.{nearest(name, known)}"


def _parts_of_a_stage(config: Config, path: str, *, first: bool) -> Iterator[Problem]:
    if first:
        for name in ("optimizer", "train_data_loader", "val_data_loader"):
            yield from _missing(config, f"{path}.{name}")
    for name in ("train_data_loader", "val_data_loader"):
        yield from _dataset_id(config, f"{path}.{name}")
    for section in stage_sections(config).values():
        yield from _missing(config, f"{path}.{section}.forward_proc")  # the host has no default
    optimiser = f"{path}.optimizer"
    grouped = any(told(config, f"{optimiser}.{key}") for key in MODULE_WISE)
    torchs = hasattr(optim, str(told(config, f"{optimiser}.key")))
    if torchs and not grouped and told(config, f"{optimiser}.filters_params") is False:
        message = "the host then gives it the models, which none of torch's takes; leave it out"
        yield f"{optimiser}.filters_params", message


def _stages(train: Config) -> Iterator[Problem]:
    names = stage_names(train)
    for name in train:
        if str(name).startswith("stage") and name not in names:  # the host adds up their epochs
            yield (
                f"train.{name}",
                f"expected stage{len(names) + 1}, the one after {names or 'none'}",
            )


def _teacher(config: Config, path: str) -> Iterator[Problem]:
    process = told(config, f"{path}.pre_epoch_process")
    if process in WITH_TEACHER and "teacher" not in model_sections(config):
        message = f"{process} needs a teacher; the recipe has no models.teacher_model"
        yield f"{path}.pre_epoch_process", message
    wrapper = told(config, f"{path}.teacher.auxiliary_model_wrapper.key")
    for name in KEEP_EVAL:
        if name in (process, wrapper) and told(config, f"{path}.teacher.keep_train_mode"):
            message = f"{name} puts the teacher into eval mode all the same; leave one of them out"
            yield f"{path}.teacher.keep_train_mode", message


def _terms(config: Config, path: str) -> Iterator[Problem]:
    stage = get(config, path)
    kwargs = get(stage, "criterion.kwargs")
    told_here = isinstance(get(stage, "criterion"), Mapping) and not isinstance(kwargs, Unbuilt)
    if told_here and not any((kwargs or {}).get(name) for name in ("sub_terms", "model_term")):
        yield f"{path}.criterion.kwargs.sub_terms", "expected at least one term"
    for where, term in terms(stage, path):
        if told(term, "criterion.key") == "ACMLoss":
            weight = told(term, "weight")
            if NUMBER.holds(weight) and weight < 0:
                yield f"{where}.weight", f"expected {WEIGHT.words}; found {weight!r}"
            yield from _pairs(config, path, term, f"{where}.criterion.kwargs")


def _pairs(config: Config, path: str, term: Config, where: str) -> Iterator[Problem]:
    if "teacher" not in model_sections(config):
        yield where, "ACMLoss needs a teacher; the recipe has no models.teacher_model"
        return
    pairs = told(term, "criterion.kwargs.pairs")
    for name, pair in pairs.items() if isinstance(pairs, Mapping) else ():
        for side in SIDES:
            module, io = told(pair, f"{side}.path"), get(pair, f"{side}.io")
            if not isinstance(module, str) or isinstance(io, Unbuilt):
                continue
            if not IO.holds(io):
                place = f"{where}.pairs.{name}.{side}.io"
                yield place, f"expected {IO.words}; found {io!r}"
                continue
            hooks = f"{side}.forward_hook.{io}"
            listed = get(config, f"{path}.{hooks}") or []
            if isinstance(listed, list) and module not in listed:
                yield (
                    f"{where}.pairs.{name}.{side}",
                    f"{module!r} isn't listed under {path}.{hooks}, which has "
                    f"{', '.join(map(str, listed)) or 'nothing'}",
                )


def losses(config: Config) -> Iterator[Problem]:
    """Yield what the losses of a built recipe refuse of their arguments."""
    for path, stage in stages(config):
        for where, term in terms(stage, path):
            yield from _loss(where, term)


def _loss(where: str, term: Config) -> Iterator[Problem]:
    criterion, kwargs = term["criterion"], f"{where}.criterion.kwargs"
    if isinstance(criterion, nn.Module):
        return
    try:
        with preserved_rng():
            get_mid_level_loss(criterion, term.get("criterion_wrapper"))
    except PairError as error:
        yield f"{kwargs}.{error.where}", error.message
    except Exception as error:
        yield kwargs, f"{type(error).__name__}: {error}"
