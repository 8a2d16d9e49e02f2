"""Where the parts of a built recipe are: values by key path, models, stages and loss terms."""

from collections.abc import Iterator, Mapping
from typing import Any

Config = Mapping[str, Any]


def get(config: Any, path: str) -> Any:
    """Value at a dotted path of nested mappings, or ``None``."""
    for name in path.split("."):
        if not isinstance(config, Mapping) or name not in config:
            return None
        config = config[name]
    return config


def stages(config: Config) -> Iterator[tuple[str, Config]]:
    """Yield the key path and the part of each training stage."""
    train = config["train"]
    names = [name for name in train if str(name).startswith("stage")]
    if not names:
        yield "train", train
    for name in names:
        yield f"train.{name}", train[name]


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


def is_redesigned(part: Config) -> bool:
    """Whether the host makes another model of it for a stage, with module paths of its own."""
    wrapper = get(part, "auxiliary_model_wrapper.key")
    # FrozenTeacher passes look-ups on to the plain teacher.
    return bool(part.get("sequential")) or wrapper not in (None, "FrozenTeacher")


def terms(stage: Config, path: str) -> Iterator[tuple[str, Config]]:
    """Yield the key path and the part of each term of a stage's loss."""
    for name, term in (get(stage, "criterion.kwargs.sub_terms") or {}).items():
        yield f"{path}.criterion.kwargs.sub_terms.{name}", term
