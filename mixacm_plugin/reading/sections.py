"""Where the parts of a recipe are: values by key path, models, stages and loss terms."""

from collections.abc import Iterator, Mapping
from itertools import count, takewhile
from typing import Any

from .nodes import Unbuilt

Config = Mapping[str, Any]


def get(config: Any, path: str) -> Any:
    """Value at a dotted path of nested mappings, or ``None``; what isn't built yet as such."""
    for name in path.split("."):
        if isinstance(config, Unbuilt):
            return config
        if not isinstance(config, Mapping) or name not in config:
            return None
        config = config[name]
    return config


def told(config: Any, path: str) -> Any:
    """Value at a dotted path, or ``None`` where there is none or the YAML doesn't tell it yet."""
    value = get(config, path)
    return None if isinstance(value, Unbuilt) else value


def stage_names(train: Any) -> list[str]:
    """Names of the stages under ``train``; none where ``train`` itself is the only one."""
    names = train if isinstance(train, Mapping) else ()
    return list(takewhile(names.__contains__, (f"stage{number}" for number in count(1))))


def part_stages(train: dict[str, Any]) -> list[dict[str, Any]]:
    """Give each stage under ``train`` a mapping of its own, since aliases share one; return all."""
    names = stage_names(train)
    train.update({name: dict(train[name]) for name in names})
    return [train[name] for name in names] or [train]


def stages(config: Config) -> Iterator[tuple[str, Config]]:
    """Yield the key path and the part of each training stage."""
    train = config["train"]
    names = stage_names(train)
    if not names:
        yield "train", train
    for name in names:
        yield f"train.{name}", train[name]


def stage_epochs(config: Config) -> list[int]:
    """Epochs of training of each stage."""
    return [stage["num_epochs"] for _, stage in stages(config)]


def num_epochs(config: Config) -> int:
    """Epochs of training, in all stages."""
    return sum(stage_epochs(config))


def current_stage(config: Config, box: Any) -> tuple[str, Config]:
    """Key path and part of the stage that the host's box is in."""
    return list(stages(config))[getattr(box, "stage_number", 1) - 1]


def model_sections(config: Config) -> dict[str, str]:
    """Key path of each model by role: ``student`` and, where there is one, ``teacher``."""
    student = "student_model" if "student_model" in config["models"] else "model"
    roles = {"student": f"models.{student}"}
    if config["models"].get("teacher_model") is not None:
        roles["teacher"] = "models.teacher_model"
    return roles


def stage_sections(config: Config) -> dict[str, str]:
    """Name of each role's part of a stage: the host calls a lone student ``model``."""
    roles = model_sections(config)
    return (
        {"teacher": "teacher", "student": "student"} if "teacher" in roles else {"student": "model"}
    )


def is_wrapped(part: Config) -> bool:
    """Whether the host puts it into a wrapper with module paths of its own for a stage."""
    # FrozenTeacher passes look-ups on to the plain teacher.
    return get(part, "auxiliary_model_wrapper.key") not in (None, "FrozenTeacher")


def is_redesigned(part: Config) -> bool:
    """Whether the host makes another model of it for a stage, with module paths of its own."""
    return bool(part.get("sequential")) or is_wrapped(part)


def term_path(path: str, name: str) -> str:
    """Return the key path of a term of the loss of the stage at a key path."""
    return f"{path}.criterion.kwargs.sub_terms.{name}"


def terms(stage: Config, path: str) -> Iterator[tuple[str, Config]]:
    """Yield the key path and the part of each term of a stage's loss."""
    for name, term in (told(stage, "criterion.kwargs.sub_terms") or {}).items():
        yield term_path(path, name), term


def acm_losses(stage: Config, path: str) -> Iterator[tuple[str, Config]]:
    """Yield the key path and the value of the arguments of each ``ACMLoss`` of a stage."""
    for where, term in terms(stage, path):
        if get(term, "criterion.key") == "ACMLoss":
            yield f"{where}.criterion.kwargs", get(term, "criterion.kwargs") or {}


def stage_checkpoint(config: Config) -> tuple[str, str] | None:
    """Key path and value of the checkpoint that a training stage loads into the plain teacher."""
    for path, stage in reversed(list(stages(config))):
        source = get(stage, "teacher.src_ckpt")
        # A wrapper's checkpoint isn't the plain teacher's.
        if source and not get(stage, "teacher.auxiliary_model_wrapper"):
            return f"{path}.teacher.src_ckpt", source
    return None
