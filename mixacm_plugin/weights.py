"""Where the trained weights of a recipe's models come from."""

from .nodes import children_of
from .recipe import Recipe
from .sections import Config, get, model_sections, stages


def brings_weights(section: Config) -> bool:
    """Whether a model, a part of ``models``, has trained weights without a ``src_ckpt``."""
    key, kwargs = section.get("key"), section.get("kwargs") or {}
    if key == "robust_teacher":
        return kwargs.get("checkpoint") is not False
    if key == "normalized":
        return brings_weights({"key": kwargs.get("model"), "kwargs": kwargs.get("model_kwargs")})
    return any((kwargs.get("pretrained"), kwargs.get("weights"), section.get("repo_or_dir")))


def stage_checkpoint(config: Config) -> tuple[str, str] | None:
    """Key path and value of the checkpoint that a training stage loads into the plain teacher."""
    for path, stage in reversed(list(stages(config))):
        source = get(stage, "teacher.src_ckpt")
        # A wrapper's checkpoint isn't the plain teacher's.
        if source and not get(stage, "teacher.auxiliary_model_wrapper"):
            return f"{path}.teacher.src_ckpt", source
    return None


def checkpoint_of(recipe: Recipe, config: Config, role: str) -> tuple[str, str | None]:
    """Key path and value of the checkpoint of a trained student or teacher.

    The value is ``None`` for a teacher that brings its weights.

    Raises:
        RecipeError: if the model's weights would be random.
    """
    path = model_sections(config)[role]
    section = get(config, path)
    key = f"{path}.{'dst_ckpt' if role == 'student' else 'src_ckpt'}"
    source = get(config, key)
    if source or (role == "teacher" and brings_weights(section)):
        return key, source
    if role == "teacher" and "train" in children_of(recipe.root):
        found = stage_checkpoint({"train": recipe.build("train")})
        if found is not None:
            return found
    raise recipe.error(key, f"no checkpoint for the {role}, whose weights would be random")
