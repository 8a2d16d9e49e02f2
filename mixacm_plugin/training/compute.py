"""How a training's passes are computed: a recipe's block ``compute``, and losses in float32."""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn
from torchdistill.core.interfaces.registry import (
    get_forward_proc_func,
    register_forward_proc_func,
)
from torchdistill.models.wrapper import AuxiliaryModelWrapper

from ..common.outputs import in_float32
from ..parts.acm.loss import ACMLoss
from ..parts.computed import Computed
from ..reading import sections
from ..reading.recipe import Recipe
from .boxes import Box, forward_process_names, models_of, terms_of


@dataclass(frozen=True)
class Compute:
    """How models run: what a recipe has under ``compute``.

    Args:
        precision: ``fp32`` or ``bf16``; ``None`` leaves it to the forward processes.
        channels_last: whether images and weights lie in memory with channels last.
        compile: whether ``torch.compile`` compiles the models.
    """

    precision: str | None = None
    channels_last: bool = False
    compile: bool = False


class ComputedForward:
    """A forward process that gets its model as ``Computed``, so that each pass in it is.

    Args:
        process: of the recipe.
        compute: how its models run.
    """

    def __init__(self, process: Callable[..., Any], compute: Compute) -> None:
        self.process, self.compute = process, compute
        self.compiled: dict[int, Any] = {}

    @property
    def __self__(self) -> Any:
        """The object whose method the process is, which the box asks, or the process."""
        return getattr(self.process, "__self__", self.process)

    def __call__(self, model: nn.Module, *args: Any, **kwargs: Any) -> Any:
        """Run the process."""
        run = self._compiled(model) if self.compute.compile else None
        computed = Computed(model, self.compute.precision, self.compute.channels_last, run)
        return self.process(computed, *args, **kwargs)

    def _compiled(self, model: nn.Module) -> Any:
        if id(model) not in self.compiled:
            self.compiled[id(model)] = torch.compile(model)
        return self.compiled[id(model)]

    def __deepcopy__(self, memo: dict[int, Any]) -> "ComputedForward":
        return ComputedForward(copy.deepcopy(self.process, memo), self.compute)


def use_compute(config: Mapping[str, Any], models: Mapping[str, nn.Module]) -> None:
    """Let all stages of a built recipe run their models as its ``compute`` block says.

    Args:
        config: whose forward processes are replaced.
        models: the plain models, whose weights' memory format is changed.
    """
    compute = Compute(**(config.get("compute") or {}))
    if compute == Compute():
        return
    if compute.channels_last:
        put_channels_last(models)
    if compute.compile:
        # Which modules are hooked changes with the stage; by default that isn't looked at again.
        torch._dynamo.config.skip_nnmodule_hook_guards = False
        # Teacher and student may be of one class, in both modes, in and out of attacks: past the
        # limit torch runs them uncompiled without a word.
        limit = torch._dynamo.config.recompile_limit
        torch._dynamo.config.recompile_limit = max(64, limit)
    for stage in sections.part_stages(config["train"]):
        for section in sections.stage_sections(config).values():
            name = stage[section]["forward_proc"]
            key = f"{name}, {asdict(compute)}"
            register_forward_proc_func(key=key)(
                ComputedForward(get_forward_proc_func(name), compute)
            )
            stage[section] = {**stage[section], "forward_proc": key}


def put_channels_last(models: Mapping[str, nn.Module], last: bool = True) -> None:
    """Let the channels of models' weights lie last in memory, or where torch has them."""
    layout = torch.channels_last if last else torch.contiguous_format
    for tensor in (t for m in models.values() for t in (*m.parameters(), *m.buffers())):
        if tensor.ndim == 4:
            tensor.data = tensor.data.contiguous(memory_format=layout)


@contextmanager
def computed(box: Box, models: Mapping[str, nn.Module], compute: Compute) -> Iterator[None]:
    """Let a box run its models otherwise for a while, not compiled.

    Args:
        box: in whose stage they run.
        models: the plain models, by role.
        compute: how; what it leaves open is as in the box.
    """
    kept = {name: getattr(box, name) for name in forward_process_names(box)}
    were_last = any(
        process.compute.channels_last
        for process in kept.values()
        if isinstance(process, ComputedForward)
    )
    try:
        put_channels_last(models, compute.channels_last)
        for name, process in kept.items():
            plain = process.process if isinstance(process, ComputedForward) else process
            setattr(box, name, ComputedForward(plain, compute))
        yield
    finally:
        for name, process in kept.items():
            setattr(box, name, process)
        put_channels_last(models, were_last)


@contextmanager
def activations_in_float32(box: Box) -> Iterator[None]:
    """Give loss terms, and what wrappers train beside the models, float32 at least, in the block.

    Under a forward process of less precision hooked activations are of less: a mean of bfloat16
    squares is good to two digits, and a wrapper's own layers, such as SRD's, take none. ``ACMLoss``
    sees to it by itself, also under the host's own script, and without a copy of whole activations.
    """
    with ExitStack() as stack:
        for term, _ in terms_of(box.criterion).values():
            if not isinstance(term, ACMLoss):
                hook = term.register_forward_pre_hook(lambda _, args: in_float32(args))
                stack.callback(hook.remove)
        for model in models_of(box).values():
            if isinstance(model, AuxiliaryModelWrapper):
                model.secondary_forward = _given_float32(model.secondary_forward)
                stack.callback(delattr, model, "secondary_forward")
        yield


def _given_float32(function: Callable[[Any], None]) -> Callable[[Any], None]:
    return lambda io_dict: function(in_float32(io_dict))


def check_compiler(recipe: Recipe, config: Mapping[str, Any], device: torch.device) -> None:
    """Compile a line of code, where a recipe wants its models compiled.

    Raises:
        RecipeError: if that fails, as where there is no C++ compiler.
    """
    if not sections.get(config, "compute.compile"):
        return
    try:
        torch.compile(_one_more)(torch.ones(2, device=device))
    except Exception as error:  # of any kind: torch's, the compiler's, the system's
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        message = f"torch.compile doesn't work here: {reason}; install a C++ compiler or set False"
        raise recipe.error("compute.compile", message) from error


def _one_more(values: torch.Tensor) -> torch.Tensor:
    return values.square() + 1
