"""The names of our networks, and small ones to run."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

import sasa
from sasa.models import SASAResNet

NAMES = [
    f"{family}_resnet{depth}{variant}"
    for family, variants in (("sasa", ("", "_conv", "_convstem")), ("sasav2", ("", "_convstem", "_hybrid")))
    for depth in (26, 38, 50)
    for variant in variants
]
# One of each kind to run; the depths differ in nothing but the number of blocks.
VARIANTS = [
    *("sasa_resnet26", "sasa_resnet26_conv", "sasa_resnet26_convstem"),
    *("sasav2_resnet26", "sasav2_resnet26_hybrid"),
]


def narrow(name: str, **options: Any) -> SASAResNet:
    """A network with a quarter of the channels, in evaluation mode, with blocks that do something."""
    torch.manual_seed(0)
    model = sasa.create_model(name, **{"width_mult": 0.25, "zero_init_last": False, **options})
    return model.eval()  # type: ignore[return-value]


def tiny(**options: Any) -> SASAResNet:
    """One block in each stage."""
    torch.manual_seed(0)
    defaults = {"num_classes": 5, "width_mult": 0.25, "kernel_size": 3, "zero_init_last": False}
    return SASAResNet((1, 1, 1, 1), **{**defaults, **options}).eval()


def on_meta(name: str, **options: Any) -> SASAResNet:
    """A network of full width without memory, for its structure and shapes."""
    with torch.device("meta"):
        return sasa.create_model(name, **options).eval()  # type: ignore[return-value]


def images(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def randomize(model: nn.Module) -> None:
    """Weights, batch norm and its statistics that no two layers share, at a scale that neither vanishes
    nor explodes."""
    generator = torch.Generator().manual_seed(2)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for x in (module.weight, module.running_var):
                x.data.uniform_(0.5, 1.5, generator=generator)  # type: ignore[union-attr]
            for x in (module.bias, module.running_mean):
                x.data.normal_(0, 0.2, generator=generator)  # type: ignore[union-attr]
        elif isinstance(module, (nn.Conv2d, nn.Linear)):
            module.weight.data.normal_(0, module.weight[0].numel() ** -0.5, generator=generator)
            if module.bias is not None:
                module.bias.data.normal_(generator=generator)
        elif isinstance(module, sasa.LocalSelfAttention2d) and module.content_gain is not None:
            module.content_gain.data.normal_(generator=generator)
