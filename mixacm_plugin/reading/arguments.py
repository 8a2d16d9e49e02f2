"""Arguments of registered parts: from their signatures and, where those swallow any, written down.

Many of the host's parts end in ``**kwargs`` or read mappings with ``.get``, so that a misspelt
argument changes the loss without a word. ``WRITTEN_DOWN`` says what those read; a test holds it
against the host's source.
"""

import inspect
from collections.abc import Callable, Mapping
from inspect import Parameter
from typing import Any

from torch import nn

from ..common.values import (
    COUNT,
    FRACTION,
    MAPPING,
    NAME,
    NATURAL,
    NUMBER,
    POSITIVE,
    SWITCH,
    WEIGHT,
    Kind,
)
from .keys import ANY, Key, Keys, any_of

NAMED = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
GIVEN = {  # by the host itself, in every recipe
    *("self", "low_level_loss", "loss", "teacher_model", "student_model"),
    *("device", "device_ids", "distributed", "params", "optimizer"),
    *("dataset", "org_dataset", "data_source", "sampler", "batch_sampler", "collate_fn"),
}
VALUES: Mapping[str, Kind] = {
    **dict.fromkeys(("lr", "temperature", "tau", "kl_temp", "ss_temp", "tf_temp"), POSITIVE),
    **dict.fromkeys(("T_max", "step_size"), POSITIVE),
    **dict.fromkeys(("alpha", "beta"), WEIGHT),
    "momentum": FRACTION,
    "batch_size": COUNT,
    "num_workers": NATURAL,
}
REDESIGN = any_of("sequential frozen_modules adaptations auxiliary_model_wrapper")


class Arguments(dict[str, Key]):
    """The arguments of a part by name; there are no others.

    Args:
        of: name of the part.
        keys: its arguments.
    """

    def __init__(self, of: str, keys: Keys) -> None:
        super().__init__(keys)
        self.of = of


def _closed(of: str, key: Key) -> Key:
    if key.keys is None:
        return key
    inside = {name: _closed(of, below) for name, below in key.keys.items()}
    return Key(key.kind, key.registry, Arguments(of, inside), key.required)


def _mapping(keys: Keys, *, required: bool = True) -> Key:
    return Key(MAPPING, keys=keys, required=required)


def _each(keys: Keys) -> Key:
    """Return a key for such mappings under names of one's own, or in a list."""
    return Key(keys={ANY: Key(MAPPING, keys=keys)})


IO = Kind("input or output", lambda value: value in ("input", "output"))
END = {"path": Key(NAME, required=True), "io": Key(IO, required=True)}
FROM = {"is_from_teacher": Key(SWITCH), "module_path": Key(NAME), "io": Key(IO)}
WRAPPED = {
    "input": _mapping({name: Key(key.kind, required=True) for name, key in FROM.items()}),
    "target": _mapping({"uses_label": Key(SWITCH), **FROM}, required=False),
}
PAIR = {"student": _mapping(END), "teacher": _mapping(END), "weight": Key(WEIGHT)}
FSP = ("student_first", "student_second", "teacher_first", "teacher_second")
FEATURE_PAIRS = {"feature_pairs": _each(PAIR)}
INPUT_MODULE = {"input_module": _mapping(END)}
BUILT = {"kwargs": Key(MAPPING, required=True), **END}
CONVOLVED = {"conv2d_kwargs": Key(MAPPING, required=True), "bn2d_kwargs": Key(MAPPING), **END}
WRITTEN_DOWN: Mapping[str, Keys] = {
    "SimpleLossWrapper": WRAPPED,
    "DictLossWrapper": WRAPPED,
    "FSPLoss": {"fsp_pairs": _each({"weight": Key(WEIGHT), **{end: _mapping(END) for end in FSP}})},
    "ATLoss": {"at_pairs": _each(PAIR)},
    "AltActTransferLoss": FEATURE_PAIRS,
    "VIDLoss": FEATURE_PAIRS,
    "ChSimLoss": FEATURE_PAIRS,
    "CCKDLoss": {
        "kernel_config": _mapping({"type": Key(NAME, required=True), **any_of("gamma max_p")})
    },
    "Teacher4FactorTransfer": {"minimal": Key(keys=REDESIGN)},
    "Connector4DAB": {"connectors": _each(CONVOLVED)},
    "VariationalDistributor4VID": {"regressors": _each(BUILT)},
    "Student4KnowledgeReview": {"abfs": _each(BUILT)},
    "Student4KTAAD": {
        "feature_adapter_config": _mapping(any_of("conv_kwargs bn_kwargs relu_kwargs")),
        "affinity_adapter_config": _mapping(any_of("conv_kwargs")),
    },
    "Student4ICKD": {"embeddings": _each({**any_of("in_channels out_channels"), **END})},
    "Linear4CCKD": INPUT_MODULE,
    "SSWrapper4SSKD": INPUT_MODULE,
    "VarianceBranch4PAD": INPUT_MODULE,
    "SRDModelWrapper": INPUT_MODULE,
}
PASSES_ON: Mapping[str, Callable[..., Any]] = {  # all that it doesn't take itself
    "KDLoss": nn.CrossEntropyLoss,
    "LogitStdKDLoss": nn.CrossEntropyLoss,
    "AuxSSKDLoss": nn.CrossEntropyLoss,
}


def arguments_of(part: Callable[..., Any], *, positional: bool = False) -> Arguments | None:
    """Return the arguments that a registered part takes from a recipe; ``None`` if it's unknown.

    Args:
        part: class or function.
        positional: whether the recipe gives some of them by position, so that none is missed.
    """
    try:
        parameters = inspect.signature(part).parameters.values()
    except (TypeError, ValueError):
        return None
    name = getattr(part, "__name__", "")
    of_host = str(getattr(part, "__module__", "")).startswith("torchdistill.")
    if any(p.kind is Parameter.VAR_KEYWORD for p in parameters) and not of_host:
        return None  # another's part, which may well read what it swallows
    keys = {p.name: _key_of(p) for p in parameters if p.kind in NAMED and p.name not in GIVEN}
    if of_host:
        for key, told in WRITTEN_DOWN.get(name, {}).items():
            keys[key] = _closed(name, told)
        if name in PASSES_ON:
            keys = {**(arguments_of(PASSES_ON[name]) or {}), **keys}
    if positional:
        keys = {name: Key(key.kind, keys=key.keys) for name, key in keys.items()}
    return Arguments(name, keys)


def _key_of(parameter: Parameter) -> Key:
    default, said = parameter.default, str(parameter.annotation)
    kind = None
    if parameter.name.endswith("module_io"):
        kind = IO
    elif "str" not in said and "list" not in said:  # of our own parts, or one for each group
        if isinstance(default, bool):
            kind = SWITCH
        elif parameter.name in VALUES:
            kind = VALUES[parameter.name]
        elif isinstance(default, int | float):
            kind = NUMBER
    return Key(kind, required=default is Parameter.empty)
