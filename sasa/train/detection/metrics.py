"""The metrics of detectors in evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, cast

from torch import nn

from sasa.data.detection import without_crowds
from sasa.detection import CocoEvaluation, CocoMetrics, RetinaNet
from sasa.train.detection.loss import Batch
from sasa.train.metrics_table import defined, rounded
from sasa.train.modules import mean_loss

LOGGED = ("AP", "AP50", "AP75")
"""The metrics of COCO that are logged."""


class DetectionMetrics(nn.Module):
    """COCO's metrics and the loss."""

    progress: ClassVar[tuple[str, ...]] = ("loss", "AP50")

    def __init__(self, ground_truth: Mapping[str, Any]) -> None:
        """Start without images.

        Args:
            ground_truth: `DetectionDataset.ground_truth()` of the images to evaluate.
        """
        super().__init__()
        self.loss = mean_loss()
        self._evaluation = CocoEvaluation(ground_truth)
        self._images = len(ground_truth["images"])
        self._coco: CocoMetrics | None = None

    def update(self, network: nn.Module, batch: Batch) -> None:
        images, targets = batch
        losses, detections = cast(RetinaNet, network).losses_and_detections(
            images, [without_crowds(target) for target in targets]
        )
        self.loss.update(sum(losses.values()), weight=len(images))
        self._evaluation.update(detections, [target["image_id"] for target in targets])

    def compute(self) -> dict[str, Any]:
        """Loss, AP, AP50 and AP75 over all batches and processes; the last three in [0, 1]."""
        self._coco = self._evaluation.compute()
        return {"loss": self.loss.compute(), **{name: self._coco.overall[name] for name in LOGGED}}

    def reset(self) -> None:
        self.loss.reset()
        self._evaluation.reset()

    def summary(self) -> dict[str, Any]:
        """All metrics, in total and by class, loss and number of images; None for what is not defined."""
        assert self._coco is not None, "compute comes first"
        return {
            **defined(self._coco.overall),
            "by_class": {name: defined(values) for name, values in self._coco.by_class.items()},
            **defined({"loss": rounded(float(self.loss.compute()))}),
            "images": self._images,
        }

    def results(self) -> list[dict[str, Any]]:
        """The detections in COCO's results format; after compute."""
        return self._evaluation.results()
