"""What a check puts into a recipe's YAML in place of data, batch sizes and weights."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence

import yaml

from ..reading.nodes import MAP_TAG, MERGE_TAG, STRING_TAG, walk
from ..reading.overrides import OPTIONAL
from ..reading.recipe import Recipe

INT_TAG, BOOL_TAG, NULL_TAG, SEQUENCE_TAG = (
    f"tag:yaml.org,2002:{kind}" for kind in ("int", "bool", "null", "seq")
)
SECTIONS = ("dependencies", "datasets", "models", "train", "test", *OPTIONAL)
LOADER_KWARGS = re.compile(
    r".*_data_loader(\.<<(\.\d+)?)?(\.batch_sampler)?\.kwargs(\.<<(\.\d+)?)?"
)
# Of a loader's arguments, those that are about worker processes.
WORKERS = (
    *("num_workers", "prefetch_factor", "persistent_workers", "pin_memory"),
    *("multiprocessing_context", "timeout", "worker_init_fn"),
)
MODEL_KWARGS = re.compile(r"models\.\w+\.kwargs(\.model_kwargs)?(\.<<(\.\d+)?)?")
NO_WEIGHTS = {
    "pretrained": yaml.ScalarNode(BOOL_TAG, "false"),
    "weights": yaml.ScalarNode(NULL_TAG, "null"),
}
IMAGES = 10_000


def use_random_images(recipe: Recipe, shape: Sequence[int]) -> None:
    """Put random images in place of every dataset, so that none is constructed or downloaded.

    They go through the dataset's own transform. Sections that nobody here knows are dropped,
    since they may construct data as well; what other sections take from them by an alias stays.
    Loaders get no worker processes.

    Args:
        recipe: as read; changed in place.
        shape: of an image before that transform, ``(C, H, W)``.

    Raises:
        RecipeError: if the recipe has no datasets.
    """
    root = recipe.root
    datasets = next((node for path, node in walk(root) if path == "datasets"), None)
    if not isinstance(datasets, yaml.MappingNode):
        raise recipe.error("datasets", "missing from the recipe")
    classes = [
        int(node.value)
        for path, node in walk(root)
        if path.endswith("num_classes")
        and isinstance(node, yaml.ScalarNode)
        and node.tag == INT_TAG
    ]
    replaced = {
        id(node): _random_images(shape, min(classes, default=2), _transform_of(node))
        for node in _values(datasets)
    }
    root.value = [item for item in root.value if item[0].value in SECTIONS]
    _edit(root, lambda path, name, node: replaced.get(id(node), node))

    def drop_workers(path: str, name: str, node: yaml.Node) -> yaml.Node | None:
        return None if LOADER_KWARGS.fullmatch(path) and name in WORKERS else node

    _edit(root, drop_workers)


def use_batch_size(recipe: Recipe, batch_size: int) -> None:
    """Set the batch size of every data loader, but not what is an alias of the old one."""
    new = yaml.ScalarNode(INT_TAG, str(batch_size))

    def set_size(path: str, name: str, node: yaml.Node) -> yaml.Node:
        return new if LOADER_KWARGS.fullmatch(path) and name == "batch_size" else node

    _edit(recipe.root, set_size)


def use_random_weights(recipe: Recipe) -> None:
    """Leave out every checkpoint that would be loaded or downloaded, but those of torch.hub."""

    def drop_source(path: str, name: str, node: yaml.Node) -> yaml.Node | None:
        if MODEL_KWARGS.fullmatch(path) and name in NO_WEIGHTS:
            return NO_WEIGHTS[name]
        inside = path.startswith(("models.", "train."))
        return None if inside and name in ("src_ckpt", "expected_accuracy") else node

    _edit(recipe.root, drop_source)
    for path, node in list(walk(recipe.root)):
        if not re.fullmatch(r"models\.\w+", path) or not isinstance(node, yaml.MappingNode):
            continue
        if any(key.value == "key" and v.value == "robust_teacher" for key, v in node.value):
            node.value = [
                (key, _without_checkpoint(value) if key.value == "kwargs" else value)
                for key, value in node.value
            ]


def _without_checkpoint(kwargs: yaml.MappingNode) -> yaml.MappingNode:
    items = [item for item in kwargs.value if item[0].value != "checkpoint"]
    items.append(_item("checkpoint", yaml.ScalarNode(BOOL_TAG, "false")))
    return yaml.MappingNode(MAP_TAG, items)


def _values(mapping: yaml.MappingNode) -> Iterator[yaml.Node]:
    for key, value in mapping.value:
        if key.tag == MERGE_TAG:
            for merged in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                yield from _values(merged)
        else:
            yield value


def _edit(root: yaml.Node, change: Callable[[str, str, yaml.Node], yaml.Node | None]) -> None:
    """Replace each child by what ``change(path of its parent, its name, child)`` gives, if any."""
    for path, node in list(walk(root)):
        if isinstance(node, yaml.MappingNode):
            changed = [(key, change(path, str(key.value), value)) for key, value in node.value]
            node.value = [item for item in changed if item[1] is not None]
        elif isinstance(node, yaml.SequenceNode):
            items = (change(path, str(index), value) for index, value in enumerate(node.value))
            node.value = [item for item in items if item is not None]


def _transform_of(dataset: yaml.Node) -> yaml.Node:
    """Return the first transform inside a dataset, which may be one of a dataset inside it."""
    inside = (child for path, child in walk(dataset) if path.endswith(".transform"))
    return next(inside, yaml.ScalarNode(NULL_TAG, "null"))


def _random_images(
    shape: Iterable[int], num_classes: int, transform: yaml.Node
) -> yaml.MappingNode:
    sizes = yaml.SequenceNode(SEQUENCE_TAG, [_number(size) for size in shape], flow_style=True)
    kwargs = _mapping(
        n=_number(IMAGES), shape=sizes, num_classes=_number(num_classes), transform=transform
    )
    key = yaml.ScalarNode(STRING_TAG, "mixacm_plugin.RandomImages")
    return yaml.MappingNode("!import_call", _mapping(key=key, init=_mapping(kwargs=kwargs)).value)


def _number(value: int) -> yaml.ScalarNode:
    return yaml.ScalarNode(INT_TAG, str(value))


def _mapping(**children: yaml.Node) -> yaml.MappingNode:
    return yaml.MappingNode(MAP_TAG, [_item(name, node) for name, node in children.items()])


def _item(name: str, node: yaml.Node) -> tuple[yaml.ScalarNode, yaml.Node]:
    return yaml.ScalarNode(STRING_TAG, name), node
