"""Small models of other architectures, by torchvision's own classes, and MixACM between any two."""

import re
from functools import partial

import torch
import yaml
from torch import Tensor, nn
from torchdistill.models.registry import register_model
from torchvision.models import ConvNeXt, SwinTransformer, VisionTransformer
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.resnet import BasicBlock, ResNet

from mixacm_plugin.parts.acm.pairs import IO
from recipes import mixacm

# The outputs of a stage, or of a block, of each.
SWIN = ("features.1", "features.3")  # (N, H, W, C)
CONVNEXT = ("features.1", "features.3")  # (N, C, H, W)
VIT = ("encoder.layers.encoder_layer_0", "encoder.layers.encoder_layer_1")  # (N, L, C)
RESNET = ("layer1", "layer2")


@register_model
def tiny_swin() -> nn.Module:
    """Swin, of 8 and 16 channels, for images whose sides are multiples of 4."""
    return SwinTransformer(
        patch_size=[2, 2],
        embed_dim=8,
        depths=[1, 1],
        num_heads=[1, 2],
        window_size=[2, 2],
        num_classes=10,
    )


@register_model
def tiny_convnext() -> nn.Module:
    """ConvNeXt, of 8 and 16 channels."""
    return ConvNeXt([CNBlockConfig(8, 16, 1), CNBlockConfig(16, None, 1)], num_classes=10)


@register_model
def tiny_vit() -> nn.Module:
    """ViT, of 16 channels, 16 patches and a class token, for images of 16×16."""
    vit = VisionTransformer(16, 4, 2, 2, 16, 32, num_classes=10)
    nn.init.normal_(vit.heads.head.weight)  # torchvision begins with zeros
    return vit


@register_model
def tiny_resnet() -> nn.Module:
    """ResNet, of 64 to 512 channels."""
    return ResNet(BasicBlock, [1, 1, 1, 1], num_classes=10)


@register_model
class CallsTwice(nn.Module):
    """A network that calls its activation, and a module of no kind, twice in a pass."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        nn.init.normal_(self.first.weight)
        nn.init.normal_(self.second.weight)
        self.relu, self.same = nn.ReLU(), nn.Identity()
        self.fc = nn.Linear(8, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        x = self.same(self.relu(self.first(images)))
        x = self.same(self.relu(self.second(x)))
        return self.fc(x.mean((2, 3)))


@register_model
class FeaturesFirst(CallsTwice):
    """A network that returns 16 features, and logits after them."""

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features and logits."""
        features = self.relu(self.first(images)).mean((2, 3))
        return features.repeat(1, 2), self.fc(features)


@register_model
class CallsTwiceInTraining(CallsTwice):
    """A network that calls its first layers in train mode once more, on other images."""

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        logits = self.fc(self.relu(self.first(images)).mean((2, 3)))
        return logits + self.relu(self.first(-images)).mean() if self.training else logits


class WithAttention(nn.Module):
    """Returns its activation and another thing."""

    def forward(self, x: Tensor, scale: float = 1.0) -> tuple[Tensor, None]:
        """Activation and nothing."""
        return scale * x.relu(), None


@register_model
class ReturnsTuple(nn.Module):
    """A network with a block that returns a tuple, and one that is called by keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 8, 3), nn.Linear(8, 10)
        self.block, self.by_keyword = WithAttention(), WithAttention()

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        x = self.by_keyword(x=self.block(self.conv(images))[0])[0]
        return self.fc(x.mean((2, 3)))


def cut(x: Tensor) -> Tensor:
    """Cut ``(N, C, H, W)`` into windows of two by two: ``(N, windows, 4, C)``."""
    return x.unfold(2, 2, 2).unfold(3, 2, 2).flatten(4).flatten(2, 3).permute(0, 2, 3, 1)


@register_model
class Patches(nn.Module):
    """A network of patches: a map, windows, and tokens.

    Tokens with a class token before them, with the positions before the images as torch's own
    transformers have them, and all of them in rows.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.fc = nn.Conv2d(3, 8, 2, 2), nn.Linear(8, 10)
        self.grid, self.tokens, self.with_class = nn.Identity(), nn.Identity(), nn.Identity()
        self.windows, self.positions_first, self.rows = (nn.Identity() for _ in range(3))
        self.pool, self.class_token = nn.AdaptiveAvgPool2d(2), nn.Parameter(torch.ones(1, 1, 8))

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        x = self.grid(self.stem(images).relu())
        x = x + self.windows(cut(x)).mean((1, 2))[:, :, None, None]
        tokens = self.tokens(x.flatten(2).transpose(1, 2))
        tokens = self.positions_first(tokens.transpose(0, 1)).transpose(0, 1)
        tokens = self.rows(tokens.flatten(0, 1)).view_as(tokens)
        tokens = torch.cat([self.class_token.expand(len(images), -1, -1), tokens], 1)
        x = self.with_class(tokens).mean(1) + self.pool(x).mean((2, 3))
        return self.fc(x)


@register_model
class FixedPatches(Patches):
    """The same, of images of 16×16 only."""

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        if images.shape[-2:] != (16, 16):
            raise RuntimeError("expected 16×16")
        return super().forward(images)


@register_model
class ChangesImages(Patches):
    """The same, which shifts its images in place."""

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        return super().forward(images.sub_(0.5))


@register_model
class FixedSize(nn.Module):
    """A network that takes images of 4×4 only and reshapes, so that nothing tells its layout."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.same = nn.Linear(48, 64), nn.Identity()
        self.fc = nn.Linear(64, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        x = self.first(images.flatten(1)).relu().unflatten(1, (4, 4, 4))
        return self.fc(self.same(x).flatten(1))


@register_model
class Branches(nn.Module):
    """Two networks side by side: nothing but images and logits is crossed by every path."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = (
            nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
            for _ in range(2)
        )
        self.fc = nn.Linear(8, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        return self.fc(torch.cat([self.one(images), self.other(images)], 1))


def pairs_of(teacher: dict, student: dict, **pair: object) -> str:
    """One pair, in YAML's flow style."""
    content = {"only": {"teacher": teacher, "student": student, **pair}}
    return yaml.safe_dump(content, default_flow_style=True, width=10**6).strip()


def end(path: str, io: str = "output", **layout: object) -> dict:
    """One side of a pair."""
    return {"path": path, "io": io, **layout}


def between(teacher: str, student: str, pairs: str, size: int = 16) -> str:
    """MixACM of any two models with random weights, on random images; hooked is what is paired.

    Args:
        teacher: key of a registered model without arguments.
        student: likewise.
        pairs: in YAML's flow style.
        size: of an image.
    """
    text = mixacm().replace(
        "- name: mixacm_plugin", "- name: mixacm_plugin\n  - name: architectures"
    )
    images = f"{{n: 20, shape: [3, {size}, {size}], num_classes: 10}}"
    data = f"!import_call {{key: mixacm_plugin.RandomImages, init: {{kwargs: {images}}}}}"
    text = re.sub(r"(few/\w+: )!import_call.*", rf"\g<1>{data}", text)
    for role, key in (("teacher", teacher), ("student", student)):
        model = rf"({role}_model:\n    key: )dm_wide_resnet\n    kwargs: .*"
        text = re.sub(model, rf"\g<1>{key}\n    kwargs: {{}}", text)
        ends = [pair[role] for pair in yaml.safe_load(pairs).values()]
        hooks = {io: list({e["path"] for e in ends if e["io"] == io}) for io in IO}
        hooked = rf"(  {role}:\n(?:    .*\n)*?    forward_hook: ).*"
        text = re.sub(hooked, partial(_with_hooks, hooks=hooks), text)
    text = text.replace("    src_ckpt: teacher.pt\n", "", 1)
    return re.sub(r"pairs:\n(                .*\n)+", f"pairs: {pairs}\n", text)


def _with_hooks(found: re.Match, hooks: dict) -> str:
    return found[1] + yaml.safe_dump(hooks, default_flow_style=True, width=10**6).strip()


def activation(model: nn.Module, path: str, images: Tensor) -> Tensor:
    """What a module returns, in eval mode."""
    seen: list[Tensor] = []
    handle = model.get_submodule(path).register_forward_hook(lambda *args: seen.append(args[2]))
    with torch.no_grad():
        model.eval()(images)
    handle.remove()
    return seen[-1]
