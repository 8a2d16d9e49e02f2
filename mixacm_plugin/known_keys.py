"""The keys of a recipe that torchdistill 1.1 or this package reads, and a check for others.

The host reads optional keys with ``.get``, so it ignores a mistyped one and trains something else.
"""

import difflib
from collections import Counter
from collections.abc import Iterable, Mapping

import yaml

from .nodes import children_of, places_of, walk
from .recipe import Recipe

MAP_TAG = "tag:yaml.org,2002:map"
ANY = "*"  # every other name

# A section's keys -> the keys inside; None where the host doesn't look at them by name, as in
# kwargs, which are their constructor's business.
Keys = Mapping[str, "Keys | None"]


def _keys(names: str, **inside: Keys) -> Keys:
    return {**dict.fromkeys(names.split()), **inside}


KEYED = _keys("key kwargs")
WITH_ARGS = _keys("key args kwargs")
LOADER = _keys(
    "dataset_id collate_fn requires_supp kwargs",
    sampler=_keys("class_or_func kwargs"),
    batch_sampler=KEYED,
    dataset_wrapper=WITH_ARGS,
)
MODEL = _keys("key kwargs src_ckpt dst_ckpt repo_or_dir quantized sync_bn")
REDESIGN = _keys("sequential frozen_modules", adaptations={ANY: KEYED})
ROLE = _keys(  # teacher, student or model of a stage
    "forward_proc requires_grad keep_train_mode src_ckpt dst_ckpt",
    **REDESIGN,
    forward_hook=_keys("input output"),
    auxiliary_model_wrapper={**KEYED, **REDESIGN},
    wrapper=KEYED,
)
ROLES = dict.fromkeys(("teacher", "student", "model"), ROLE)
TERM = _keys("weight", criterion=KEYED, criterion_wrapper=WITH_ARGS)
MODULE_WISE = {ANY: _keys("module is_teacher kwargs")}
STAGE = _keys(
    "num_epochs log_freq",
    **dict.fromkeys(("train_data_loader", "val_data_loader"), LOADER),
    **dict.fromkeys(f"{w}_{p}_process" for w in ("pre", "post") for p in ("epoch", "forward")),
    **ROLES,
    criterion=_keys(
        "key args func2extract_model_loss",
        kwargs={"sub_terms": {ANY: TERM}, "model_term": _keys("weight"), ANY: None},
    ),
    optimizer=_keys(
        "key kwargs filters_params grad_accum_step max_grad_norm",
        module_wise_kwargs=MODULE_WISE,  # without a teacher, and with one
        module_wise_configs=MODULE_WISE,
    ),
    scheduler=_keys("key kwargs scheduling_step"),
)
RECIPE = _keys(
    "dependencies datasets",
    models=dict.fromkeys(("teacher_model", "student_model", "model"), MODEL),
    train=STAGE,
    test=_keys("log_freq", test_data_loader=LOADER),
)
INIT = _keys("args kwargs")
TAGS = {
    "!import_get": _keys("key package"),
    "!import_call": _keys("key package", init=INIT),
    "!import_call_method": _keys("package class_name method_name", init=INIT),
}


def check_keys(recipe: Recipe) -> list[str]:
    """Look for keys that nothing reads, in the YAML alone.

    A key of one's own that defines an anchor is read by its aliases, and at the top level any is
    allowed; but not one that is like a known key that is missing.

    Returns:
        A warning for each unknown key that is unlike the known ones: the host may have grown it.

    Raises:
        RecipeError: for the first that is like a known key.
    """
    train = children_of(recipe.root).get("train", recipe.root)
    stages = [name for name in children_of(train) if name.startswith("stage")]
    known = RECIPE
    if stages:
        known = {**RECIPE, "train": {"log_freq": None, **ROLES, **dict.fromkeys(stages, STAGE)}}
    check = _Check(recipe)
    check.section("", recipe.root, known)
    # Each once, although aliases bring it to several places.
    for path, node in {id(node): (path, node) for path, node in walk(recipe.root)}.values():
        check.section(path, node, TAGS.get(node.tag), node.tag)
    return check.warnings


class _Check:
    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.warnings: list[str] = []
        uses: Counter[int] = Counter()
        for parent in {id(node): node for _, node in walk(recipe.root)}.values():
            items = parent.value if isinstance(parent, yaml.CollectionNode) else []
            uses.update(id(item[1] if isinstance(item, tuple) else item) for item in items)
        self.written = places_of(recipe.root)
        self.shared = {path for node, path in self.written.items() if uses[node] > 1}

    def section(self, path: str, node: yaml.Node, known: Keys | None, tag: str = MAP_TAG) -> None:
        if known is None or (node.tag != tag and ANY not in known):
            return
        there = children_of(node)
        for name, child in there.items():
            where = f"{path}.{name}".lstrip(".")
            if name in known or ANY in known:
                self.section(where, child, known.get(name, known.get(ANY)))
                continue
            own = not path or self._defines_an_anchor(name, child)
            meant = _like(name, known.keys() - there.keys()) or (not own and _like(name, known))
            if meant:
                raise self.recipe.error(where, f"unknown key. Did you mean {meant!r}?")
            if not own:
                self.warnings.append(
                    f"{where}: unknown key, which neither torchdistill 1.1 nor this package reads"
                )

    def _defines_an_anchor(self, name: str, child: yaml.Node) -> bool:
        here = self.written[id(child)]
        inside = any(f"{place}.".startswith(f"{here}.") for place in self.shared)
        return inside and f".{here}".endswith(f".{name}")


def _like(name: str, known: Iterable[str]) -> str | None:
    # Stricter than recipe.nearest, which only suggests, where here it may refuse a recipe.
    return next(iter(difflib.get_close_matches(name, known, n=1, cutoff=0.7)), None)
