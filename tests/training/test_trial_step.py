"""The trial step before training is a real one, of which nothing is left."""

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import default_collate
from torchdistill.core.interfaces.registry import register_forward_proc_func
from torchdistill.datasets.registry import register_collate_func
from torchdistill.models.registry import register_model

from mixacm_plugin import RecipeError, Training, dm_wide_resnet, read_recipe
from mixacm_plugin.common.files import recipe_file
from mixacm_plugin.preflight import stand_ins
from mixacm_plugin.preflight.inspection import inspect_recipe
from mixacm_plugin.reading.library import override_names
from mixacm_plugin.reading.nodes import walk
from mixacm_plugin.training import building
from recipes import CPU, mixacm, recipe, scratch
from weights import differing, state

LOADER = "train.train_data_loader"
STUDENT = "models.model"


@register_model
class WithAuxiliary(nn.Module):
    """A network with a second head that it calls in train mode only, as GoogLeNet does."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 16), nn.ReLU())
        self.aux1, self.head = nn.Linear(16, 10), nn.Linear(16, 10)

    def forward(self, images: Tensor) -> Tensor:
        features = self.body(images)
        if self.training:
            self.aux1(features)
        return self.head(features)


@register_model
class WithBatchNorm1d(nn.Sequential):
    """A network that can't be trained on a batch of one image."""

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(3 * 8 * 8, 10), nn.BatchNorm1d(10))


@register_collate_func
def halved(batch):
    """Collate an even number of images, by their halves."""
    assert len(batch) % 2 == 0, "the batch can't be halved"
    images, labels, extra = default_collate(batch)
    first, second = images.chunk(2)
    return torch.cat([second, first]), torch.cat(labels.chunk(2)[::-1]), extra


def model(name):
    return f"{STUDENT}={{key: {name}, kwargs: {{}}, dst_ckpt: out/student.pt}}"


def test_a_head_that_exists_in_train_mode_only_can_be_hooked():
    hook = "train.model={forward_proc: forward_batch_only, forward_hook: {output: [aux1]}}"
    term = "train.criterion.kwargs.sub_terms.ce.criterion_wrapper.kwargs.input"
    on_it = f"{term}={{is_from_teacher: False, module_path: aux1, io: output}}"
    Training(recipe(scratch(), model("WithAuxiliary"), hook, on_it), CPU, seed=0).run()


def test_a_collate_function_may_need_an_even_batch():
    Training(recipe(scratch(), f"{LOADER}.collate_fn=halved"), CPU, seed=0).run()
    odd = f"{LOADER}.kwargs={{batch_size: 15}}"
    with pytest.raises(RecipeError, match="the batch can't be halved"):
        Training(recipe(scratch(), f"{LOADER}.collate_fn=halved", odd), CPU)


def test_a_suggestion_of_pairs_takes_an_even_batch_too():
    text = re.sub(r"(?s)        acm:.*?(?=\ntest:)", "", mixacm())
    found = inspect_recipe(recipe(text, f"{LOADER}.collate_fn=halved"), CPU, seconds=0)
    assert found.suggestion


@pytest.mark.parametrize(("images", "refused"), [(32, False), (33, True)])
def test_a_last_batch_that_cannot_be_trained_on_is_refused_before_training(images, refused):
    few = f"!import_call {{key: recipes.Few, init: {{kwargs: {{split: train, n: {images}}}}}}}"
    read = recipe(scratch(), model("WithBatchNorm1d"), f"datasets.few/train={few}")
    if not refused:
        Training(read, CPU, seed=0).run()
        return
    with pytest.raises(RecipeError, match="more than 1 value per channel") as caught:
        Training(read, CPU)
    assert caught.value.where == LOADER
    assert caught.value.message.startswith("in the last batch, of 1 of the images: ValueError: ")
    assert caught.value.message.endswith("; kwargs.drop_last: True leaves it out")


def trained(method):
    """Weights after a short training by a shipped method, on batches of 16 and of what is left."""
    alone = "train.model." in Path(recipe_file(method)).read_text()
    sets = [] if alone else ["models.teacher_model.expected_accuracy=0"]  # on random images
    read = read_recipe(f"quickstart/{'scratch' if alone else 'mixacm'}", [method, *sets])
    stand_ins.use_random_images(read, (3, 8, 8))
    stand_ins.use_batch_size(read, 16)
    for path, node in walk(read.root):
        if path.endswith(".num_epochs"):
            node.value = "1"
    training = Training(read, CPU, seed=0)
    training.run()
    return state(training.models["student"])


@pytest.mark.exhaustive
@pytest.mark.parametrize("method", override_names())
def test_training_is_the_same_to_the_last_bit_without_it(method, monkeypatch):
    monkeypatch.setattr(stand_ins, "IMAGES", 24)
    with_it, steps = trained(method), []
    monkeypatch.setattr(building, "try_step", lambda *args: steps.append(args) or [])
    assert not differing(with_it, trained(method))
    assert steps


@pytest.mark.parametrize("classes", [1, 5])
def test_soft_labels_of_other_classes_are_refused_with_what_to_take(classes):
    head = "{depth: 10, width: 1, num_classes: "
    text = mixacm().replace(f"{head}10}}", f"{head}{classes}}}", 1)
    changed = recipe(text)
    torch.save(dm_wide_resnet(10, 1, classes).state_dict(), "teacher.pt")
    words = f"sub_terms.kd: the teacher has {classes} classes, the student 10, .*cross-entropy"
    with pytest.raises(RecipeError, match=words):
        Training(changed, CPU)


@register_model
class Answering(nn.Module):
    """A network that returns a mapping with logits, looked up by key or as an attribute."""

    class Answer(dict):
        def __getattr__(self, name):
            if name not in self:
                raise AttributeError(name)
            return self[name]

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 10))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return self.Answer(logits=self.body(images))


@register_forward_proc_func
def looked_up(model, sample_batch, targets=None, supp_dict=None, **_):
    return model(sample_batch).logits


ANSWERING = ("models.model.key=Answering", "models.model.kwargs={}")


def test_where_a_mapping_reaches_a_loss_a_way_out_is_told():
    with pytest.raises(RecipeError, match="the student returns no tensor: hook the layer"):
        Training(recipe(scratch(), *ANSWERING), CPU)


def test_bf16_takes_outputs_that_are_looked_up_as_float32_does():
    for precision in ("fp32", "bf16"):
        own = ("train.model.forward_proc=looked_up", f"compute.precision={precision}")
        Training(recipe(scratch(), *ANSWERING, *own), CPU)
