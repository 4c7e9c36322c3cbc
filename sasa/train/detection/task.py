"""Object detection as a task of a training run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import nn

from sasa.data.detection import DetectionDataset
from sasa.detection import RetinaNet, detector_cost
from sasa.models import list_models
from sasa.train.config import options_of
from sasa.train.detection.config import DetectionConfig
from sasa.train.detection.data import DetectionData
from sasa.train.detection.loss import detection_loss
from sasa.train.detection.metrics import LOGGED, DetectionMetrics
from sasa.train.detection.weights import DetectorMetadata, create_detector


class DetectionTask:
    """A detector on annotated images; see sasa.train.task.Task."""

    scores: ClassVar[Mapping[str, str | None]] = {f"val_{name}": name for name in LOGGED}

    data: DetectionData
    network: RetinaNet
    metadata: DetectorMetadata

    def __init__(self, config: DetectionConfig) -> None:
        """Take the configuration."""
        self.config = config
        self.loss = detection_loss

    def open_data(self) -> None:
        self.data = DetectionData(self.config)

    def build_network(self, *, initial: bool = True) -> None:
        data = self.data
        with options_of("model"):
            self.network, self.metadata = create_detector(
                self.config, data.classes, data.size, initial=initial
            )
        data.augment(self.network.transform.image_mean)
        self._cost = {"parameters": sum(parameter.numel() for parameter in self.network.parameters())}
        if self.metadata.backbone in list_models():  # FLOPs are known for layers of sasa only
            self._cost["flops"] = detector_cost(self.network, (3, data.size, data.size)).flops

    def compile_network(self) -> None:
        compile_detector(self.network)

    def metrics(self, images: DetectionDataset) -> DetectionMetrics:
        return DetectionMetrics(images.ground_truth())

    def describe(self) -> dict[str, Any]:
        data, metadata = self.data, self.metadata
        parts = (data.training, data.validation, data.test)
        return {
            "model": {"backbone": metadata.backbone, **metadata.backbone_options},
            "options": metadata.options,
            "data": self.config.data.source,
            "classes": len(data.classes),
            "training_images": len(data.training),
            "skipped_objects": sum(len(part.skipped) for part in parts),
            **self._cost,
        }

    def scored_metadata(self, results: Mapping[str, Any]) -> DetectorMetadata:
        metrics = {name: value for name, value in results.items() if name[:2] in ("AP", "AR")}
        return dataclasses.replace(self.metadata, metrics=metrics)

    def write_descriptions(self, network: nn.Module) -> None:
        """Nothing: no other tool builds these detectors."""


def compile_detector(detector: RetinaNet) -> None:
    """Apply torch.compile to the networks within a detector, but not to anchors, matching and suppression."""
    detector.backbone.compile()
    detector.head.compile()
