"""What one step of a detector's training and evaluation does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from sasa.data.detection import Target, without_crowds
from sasa.detection import CocoEvaluation, CocoMetrics, RetinaNet
from sasa.train.detection.config import DetectionConfig
from sasa.train.learner import Learner, mean_loss

Batch = tuple[list[Tensor], list[Target]]

LOGGED = ("AP", "AP50", "AP75")
"""Of COCO's metrics, what is logged."""


class DetectionEvaluator(LightningModule):
    """Loss and COCO metrics of a detector; logs {test,val}_{loss,AP,AP50,AP75}.

    Attributes:
        network: the detector.
        evaluations: "val" and "test" → the detections since the stage began.
        metrics: "val" and "test" → the metrics when the stage last ended.
        results: the detections in the test images, in COCO's results format.
    """

    def __init__(
        self,
        network: RetinaNet,
        ground_truth: Mapping[str, Mapping[str, Any]],
        *,
        channels_last: bool = False,
    ) -> None:
        """Wrap the detector.

        Args:
            network: the detector.
            ground_truth: "val", "test" → DetectionDataset.ground_truth() of the images evaluated there.
            channels_last: change the layout of its weights, in place.
        """
        super().__init__()
        layout = torch.channels_last if channels_last else torch.contiguous_format
        self.network = network.to(memory_format=layout)
        self.evaluations = {stage: CocoEvaluation(truth) for stage, truth in ground_truth.items()}
        self.metrics: dict[str, CocoMetrics] = {}
        self.results: list[dict[str, Any]] = []
        self.losses = torch.nn.ModuleDict({stage: mean_loss() for stage in ground_truth})

    @property
    def evaluated(self) -> Any:
        """The detector whose detections count."""
        return self.network

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Detect in a batch of test images."""
        self._count(batch, "test")

    def on_test_epoch_end(self) -> None:
        """Log the metrics of all test images."""
        self._conclude("test")
        self.results = self.evaluations["test"].results()

    def _count(self, batch: Batch, stage: str) -> None:
        images, targets = batch
        losses, found = self.evaluated.losses_and_detections(images, [without_crowds(x) for x in targets])
        metric: Any = self.losses[stage]
        metric.update(sum(losses.values()), weight=len(images))
        self.log(f"{stage}_loss", metric, prog_bar=True, batch_size=len(images))
        self.evaluations[stage].update(found, [target["image_id"] for target in targets])

    def _conclude(self, stage: str) -> None:
        evaluation = self.evaluations[stage]
        metrics = self.metrics[stage] = evaluation.compute()
        for name in LOGGED:
            self.log(f"{stage}_{name}", metrics.overall[name], prog_bar=name == "AP50", sync_dist=True)


class Detector(Learner, DetectionEvaluator):
    """A detector in training."""

    def __init__(
        self,
        network: RetinaNet,
        config: DetectionConfig,
        ground_truth: Mapping[str, Any],
        *,
        steps_per_epoch: int,
    ) -> None:
        """Set the detector up for training, in place.

        Args:
            network: the detector.
            config: the recipe.
            ground_truth: of the validation images.
            steps_per_epoch: optimizer steps of an epoch.
        """
        super().__init__(network, {"val": ground_truth}, channels_last=config.runtime.channels_last)
        self.learn(config, steps_per_epoch)

    def compile_network(self) -> None:
        """Let torch.compile run backbone and head."""
        compile_parts(cast(RetinaNet, self.network))

    def loss(self, batch: Batch) -> tuple[Tensor, int]:
        """Focal loss of the classes and L1 loss of the boxes, the mean over the images."""
        images, targets = batch
        losses: dict[str, Tensor] = self.network(images, targets)
        return torch.stack(list(losses.values())).sum(), len(images)

    def on_validation_epoch_start(self) -> None:
        """Forget the detections of the epoch before."""
        self.evaluations["val"].reset()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Detect in a batch of validation images."""
        self._count(batch, "val")

    def on_validation_epoch_end(self) -> None:
        """Log the metrics of all validation images."""
        self._conclude("val")


def compile_parts(network: RetinaNet) -> None:
    """Let torch.compile run what is a network in a detector: not anchors, matching and suppression."""
    network.backbone.compile()
    network.head.compile()
