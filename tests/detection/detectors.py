"""Small detectors and targets to run."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sasa.detection import RetinaNet, create_retinanet

BACKBONES = ["sasa_resnet26", "sasa_resnet26_convstem", "sasa_resnet26_conv"]
LAYER_TYPES = ["attention", "conv"]
NARROW = {"width_mult": 0.125, "num_heads": 2, "kernel_size": 3, "zero_init_last": False}


def small(backbone: str = "sasa_resnet26", **options: Any) -> RetinaNet:
    """An eighth of the channels, 3 × 3 windows, 3 classes."""
    torch.manual_seed(0)
    if backbone.startswith("sasa"):
        options["backbone_options"] = {**NARROW, **options.get("backbone_options", {})}
    defaults = {
        "num_classes": 3,
        "fpn_channels": 32,
        "num_heads": 2,
        "kernel_size": 3,
        "min_size": 64,
        "max_size": 64,
    }
    return create_retinanet(backbone, **{**defaults, **options})


def lively(detector: RetinaNet) -> RetinaNet:
    """The same with weights at which every layer matters, and batch norms with statistics of their own."""
    generator = torch.Generator().manual_seed(2)
    for module in detector.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2, generator=generator)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 1.5, generator=generator)  # type: ignore[union-attr]
        elif isinstance(module, nn.Conv2d):
            module.weight.data.normal_(0, module.weight[0].numel() ** -0.5, generator=generator)
            if module.bias is not None:
                module.bias.data.normal_(0, 0.2, generator=generator)
    return detector


def image(*size: int, seed: int = 1) -> Tensor:
    return torch.rand(3, *size, generator=torch.Generator().manual_seed(seed))


def target(*boxes: tuple[float, float, float, float], labels: tuple[int, ...] = ()) -> dict[str, Tensor]:
    return {"boxes": torch.tensor(boxes).reshape(-1, 4), "labels": torch.tensor(labels, dtype=torch.int64)}
