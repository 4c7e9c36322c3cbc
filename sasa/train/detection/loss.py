"""The loss of detectors in training."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sasa.data.detection import Target

Batch = tuple[list[Tensor], list[Target]]


def detection_loss(network: nn.Module, batch: Batch) -> tuple[Tensor, int]:
    """Focal loss of classes plus L1 loss of boxes, averaged over the images, and the number of images."""
    images, targets = batch
    losses: dict[str, Tensor] = network(images, targets)
    return torch.stack(list(losses.values())).sum(), len(images)
