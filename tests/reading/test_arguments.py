"""Arguments of registered parts: known even where the host swallows what it doesn't read."""

import ast
import inspect
import textwrap
from pathlib import Path

import pytest
import yaml
from torchdistill.datasets import registry as datasets
from torchdistill.losses import registry as losses
from torchdistill.models import registry as models

from mixacm_plugin import RecipeError, read_recipe
from mixacm_plugin.common.files import recipe_file
from mixacm_plugin.reading.arguments import WRITTEN_DOWN
from mixacm_plugin.reading.checks import check_yaml
from mixacm_plugin.reading.library import override_names
from mixacm_plugin.training.prepare import prepare
from recipes import CPU

REGISTRIES = (
    losses.LOSS_DICT,
    losses.LOSS_WRAPPER_DICT,
    losses.MIDDLE_LEVEL_LOSS_DICT,
    models.AUXILIARY_MODEL_WRAPPER_DICT,
    datasets.BATCH_SAMPLER_DICT,
    datasets.DATASET_WRAPPER_DICT,
)
PARTS = {
    name: part
    for registry in REGISTRIES
    for name, part in registry.items()
    if part.__module__.startswith("torchdistill.")
}
# Read by these names from what the host itself makes: hooked activations, CRD's batches, models.
MADE_BY_THE_HOST = {"output", "contrast_idx", "pos_idx", "teacher_model", "student_model"}
END = {"path", "io"}  # by a function that many parts call


def names_read(part):
    """What a part's source looks up by a constant name, as ``x["name"]`` or ``x.get("name")``."""
    names = set()
    for owner in part.__mro__:
        if owner.__module__.startswith("torchdistill."):
            for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(owner)))):
                if isinstance(node, ast.Subscript):
                    names.add(getattr(node.slice, "value", None))
                elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "get":
                    names.add(getattr(node.args[0], "value", None))
    return {name for name in names if isinstance(name, str)}


def names_written(keys):
    names = {name for name in keys if name != "*"}
    return names.union(*(names_written(key.keys) for key in keys.values() if key.keys))


@pytest.mark.parametrize("name", sorted(PARTS))
def test_what_is_written_down_is_what_the_hosts_source_looks_up(name):
    part = PARTS[name]
    written = names_written(WRITTEN_DOWN.get(name, {}))
    takes = set(inspect.signature(part).parameters)
    if name == "Student4ICKD":
        takes |= {"in_channels", "out_channels"}  # which it passes on
    hooked = {"input"} if "input" not in written else set()
    read = names_read(part) - MADE_BY_THE_HOST - hooked
    assert read <= written | takes
    # The host hands "minimal" to the functions that read a model's section of a stage.
    if name != "Teacher4FactorTransfer":
        assert written - read - takes <= END


@pytest.mark.parametrize(
    ("method", "old", "new"),
    [
        ("direct_l2", "is_from_teacher", "is_from_teachr"),  # the student with itself: loss 0
        ("srd", "exponent", "exponet"),
        ("pad", "module_io", "module_ioo"),
    ],
)
def test_a_misspelt_argument_that_the_host_swallows_is_refused(method, old, new):
    text = Path(recipe_file(f"compare/{method}")).read_text()
    assert old in text
    Path("misspelt.yaml").write_text(text.replace(f"{old}:", f"{new}:"))
    with pytest.raises(RecipeError, match=rf"{new}: .* doesn't read it here.*Did you mean '{old}'"):
        check_yaml(read_recipe("quickstart/mixacm", ["misspelt.yaml"]))


NAME_MAPS = {  # whose keys are one's own
    *("sub_terms", "pairs", "at_pairs", "feature_pairs", "fsp_pairs"),
    *("connectors", "abfs", "regressors", "embeddings", "adaptations", "modules"),
    *("module_wise_kwargs", "module_wise_configs"),
}


def mappings(node, parent):
    """Every mapping in an override file, with the key that it stands under."""
    if isinstance(node, yaml.MappingNode):
        yield node, parent
        for key, value in node.value:
            yield from mappings(value, key.value.rpartition(".")[2])
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from mappings(value, parent)


def swapped(name):
    """A name with two letters in the wrong order."""
    at = next(i for i in range(len(name) - 1, 0, -1) if name[i] != name[i - 1])
    return name[: at - 1] + name[at] + name[at - 1] + name[at + 1 :]


@pytest.mark.exhaustive
@pytest.mark.parametrize("method", override_names())
def test_every_key_of_a_method_misspelt_is_refused_or_a_name_of_ones_own(method):
    text = Path(recipe_file(method)).read_text()
    base = "quickstart/scratch" if "train.model." in text else "quickstart/mixacm"
    accepted, tried = [], 0
    root = yaml.compose(text, Loader=yaml.FullLoader)
    seen = set()
    for mapping, parent in list(mappings(root, "")):
        for key, _ in mapping.value:
            if id(key) in seen or parent in NAME_MAPS or len(set(key.value)) < 2:
                continue
            seen.add(id(key))
            right, key.value = key.value, swapped(key.value)
            Path("misspelt.yaml").write_text(yaml.serialize(root))
            key.value = right
            tried += 1
            try:
                prepare(read_recipe(base, ["misspelt.yaml"]), CPU, seed=0, real=False)
            except RecipeError:
                continue
            accepted.append(f"{parent}: {right}")
    assert accepted == []
    assert tried
