"""What an evaluation can say of a classifier beyond its accuracy."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.classification import MulticlassCalibrationError, MulticlassConfusionMatrix

from sasa.train.classification.metrics import ClassificationMetrics


class DetailedMetrics(ClassificationMetrics):
    """Also the confusion matrix, the expected calibration error, and the most confident mistakes.

    Args:
        num_classes: The number of classes.
        mistakes: How many mistakes are kept.
        channels_last: The memory format of the images.
    """

    def __init__(self, num_classes: int, *, mistakes: int, channels_last: bool = False) -> None:
        super().__init__(num_classes, channels_last=channels_last)
        self.confusion = MulticlassConfusionMatrix(num_classes, validate_args=False)
        self.calibration = MulticlassCalibrationError(num_classes, n_bins=15, norm="l1", validate_args=False)
        self.mistakes = ConfidentMistakes(mistakes)

    def update_from(self, logits: Tensor, images: Tensor, labels: Tensor) -> None:
        super().update_from(logits, images, labels)
        probabilities = logits.float().softmax(1)
        self.confusion.update(probabilities, labels)
        self.calibration.update(probabilities, labels)
        self.mistakes.update(probabilities, images, labels)

    def reset(self) -> None:
        super().reset()
        for metric in (self.confusion, self.calibration, self.mistakes):
            metric.reset()


class ConfidentMistakes(Metric):
    """The images that were classified wrongly with the highest probability.

    Args:
        count: How many are kept.
    """

    full_state_update = False
    images: list[Tensor]
    labels: list[Tensor]
    predicted: list[Tensor]
    confidence: list[Tensor]

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count
        for name in ("images", "labels", "predicted", "confidence"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, probabilities: Tensor, images: Tensor, labels: Tensor) -> None:
        """Take the mistakes of one batch.

        Args:
            probabilities: (B, classes).
            images: (B, C, H, W), as the network gets them.
            labels: (B,).
        """
        confidence, predicted = probabilities.max(1)
        wrong = predicted != labels
        for state, values in (
            (self.images, images),
            (self.labels, labels),
            (self.predicted, predicted),
            (self.confidence, confidence),
        ):
            state.append(values[wrong])
        order = self._order()
        for name in ("images", "labels", "predicted", "confidence"):
            setattr(self, name, [torch.cat(getattr(self, name))[order]])

    def compute(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Images, labels, predicted labels and probabilities, the most confident first."""
        states: list[Any] = [self.images, self.labels, self.predicted, self.confidence]
        images, labels, predicted, confidence = (
            torch.cat(state) if isinstance(state, list) else state for state in states
        )
        order = confidence.argsort(descending=True, stable=True)[: self.count]
        return images[order], labels[order], predicted[order], confidence[order]

    def _order(self) -> Tensor:
        return torch.cat(self.confidence).argsort(descending=True, stable=True)[: self.count]
