"""The metrics of classifiers in evaluation."""

from __future__ import annotations

from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import MetricCollection, SumMetric
from torchmetrics.classification import MulticlassAccuracy

from sasa.train.classification.loss import Batch, compute_logits
from sasa.train.metrics_table import defined, rounded
from sasa.train.modules import mean_loss


class ClassificationMetrics(nn.Module):
    """Top-1 accuracy, top-5 accuracy if there are more than five classes, loss, and number of images."""

    progress: ClassVar[tuple[str, ...]] = ("top1", "loss")

    def __init__(self, num_classes: int, *, channels_last: bool = False) -> None:
        """Start without images; channels_last is the memory format of the images."""
        super().__init__()
        self._channels_last = channels_last
        self.accuracy = MetricCollection(
            {
                f"top{k}": MulticlassAccuracy(num_classes, top_k=k, average="micro", validate_args=False)
                for k in (1, 5)
                if k == 1 or k < num_classes
            },
            compute_groups=False,
        )
        self.loss, self.images = mean_loss(), SumMetric()

    def update(self, network: nn.Module, batch: Batch) -> None:
        images, labels = batch
        self.update_from(compute_logits(network, images, channels_last=self._channels_last), images, labels)

    def update_from(self, logits: Tensor, images: Tensor, labels: Tensor) -> None:
        """Take the logits (B, classes), images (B, C, H, W) and labels (B,) of one batch."""
        self.accuracy.update(logits, labels)
        self.loss.update(F.cross_entropy(logits, labels), weight=len(labels))
        self.images.update(len(labels))

    def compute(self) -> dict[str, Any]:
        """The metrics over all batches and processes, in [0, 1] except for loss and images."""
        return {
            **self.accuracy.compute(),
            "loss": self.loss.compute(),
            "images": self.images.compute(),
        }

    def reset(self) -> None:
        for metric in (self.accuracy, self.loss, self.images):
            metric.reset()

    def summary(self) -> dict[str, Any]:
        """The metrics as numbers; the loss is None if it is not finite."""
        values = {name: float(value) for name, value in self.compute().items()}
        images = int(values.pop("images"))
        return {**defined({name: rounded(value) for name, value in values.items()}), "images": images}
