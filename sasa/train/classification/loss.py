"""The loss of classifiers in training."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from timm.data.mixup import Mixup
from torch import Tensor, nn

from sasa.train.classification.config import AugmentationConfig

Batch = tuple[Tensor, Tensor]


class ClassificationLoss:
    """Cross-entropy of mixed and smoothed labels."""

    def __init__(
        self, augmentation: AugmentationConfig, num_classes: int, *, channels_last: bool = False
    ) -> None:
        """Set the loss up.

        Args:
            augmentation: Mixup, CutMix and label smoothing.
            num_classes: Number of classes.
            channels_last: Use the channels-last memory format for the images.
        """
        self._channels_last = channels_last
        self._smoothing = augmentation.label_smoothing
        self._mix: Mixup | None = None
        if augmentation.mixup > 0 or augmentation.cutmix > 0:
            self._mix = Mixup(
                augmentation.mixup,
                augmentation.cutmix,
                label_smoothing=augmentation.label_smoothing,
                num_classes=num_classes,
            )
            self._smoothing = 0.0

    def __call__(self, network: nn.Module, batch: Batch) -> tuple[Tensor, int]:
        """The mean loss of a batch, and its number of images."""
        images, labels = batch
        if self._mix is not None:
            images, labels = self._mix(images, labels)
        logits = compute_logits(network, images, channels_last=self._channels_last)
        return F.cross_entropy(logits, labels, label_smoothing=self._smoothing), len(images)


def compute_logits(network: nn.Module, images: Tensor, *, channels_last: bool) -> Tensor:
    """The logits (B, classes) of images (B, C, H, W), in fp32."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    logits: Tensor = network(images.contiguous(memory_format=layout))
    return logits.float()
