"""A detector's trained weights, with all that is needed to use them again."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import sasa
from sasa.detection import RetinaNet, create_retinanet
from sasa.train.config_files import plain
from sasa.train.detection.config import DetectionConfig
from sasa.train.detectors import FETCH, read_classifier, retinanet_from_classifier
from sasa.train.weights import load_any_weights

_BACKBONE = "sasa_resnet26"


@dataclass(frozen=True)
class DetectorMetadata:
    """What a detector's weights file says about itself.

    Attributes:
        backbone: the backbone's name.
        backbone_options: its further options.
        options: further options of sasa.detection.create_retinanet.
        classes: label → class name.
        size: in evaluation the longer side of an image is resized to this, in pixels.
        mean: of each channel, for pixels in [0, 1].
        std: of each channel.
        metrics: COCO's on the test images, in [0, 1], null where there is nothing to find; None if not
            evaluated.
        recipe: the configuration it was trained by, as in config.yaml; None if unknown.
        sasa_version: that wrote the file.
    """

    backbone: str
    backbone_options: dict[str, Any]
    options: dict[str, Any]
    classes: list[str]
    size: int
    mean: list[float]
    std: list[float]
    metrics: dict[str, float | None] | None = None
    recipe: dict[str, Any] | None = None
    sasa_version: str = field(default=sasa.__version__)

    def create_model(self) -> RetinaNet:
        """The detector, with weights yet to load."""
        return create_retinanet(
            self.backbone,
            len(self.classes),
            backbone_options=self.backbone_options,
            min_size=self.size,
            max_size=self.size,
            image_mean=self.mean,
            image_std=self.std,
            **self.options,
        )


def create_detector(
    config: DetectionConfig, classes: list[str], size: int
) -> tuple[RetinaNet, DetectorMetadata]:
    """The detector that a run begins with, its backbone trained already where the configuration says so.

    Args:
        config: the run's.
        classes: label → class name.
        size: of the images, in pixels.

    Raises:
        FileNotFoundError, ValueError, TypeError: the classifier, or an option, is at fault.
    """
    model, data = config.model, config.data
    backbone, backbone_options = model.backbone or _BACKBONE, model.backbone_options
    options = {**model.options, "frozen_batch_norm": model.frozen_batch_norm}
    images: dict[str, Any] = {"min_size": size, "max_size": size}
    for key, value in (("image_mean", data.mean), ("image_std", data.std)):
        if value is not None:
            images[key] = value
    if model.classifier is None:
        detector = create_retinanet(
            backbone, len(classes), backbone_options=backbone_options, **options, **images
        )
    else:
        _, about = read_classifier(model.classifier)
        backbone, backbone_options = about.model, about.options
        detector = retinanet_from_classifier(model.classifier, len(classes), **options, **images)
    return detector, DetectorMetadata(
        backbone=backbone,
        backbone_options={key: value for key, value in backbone_options.items() if key not in FETCH},
        options=options,
        classes=classes,
        size=size,
        mean=list(detector.transform.image_mean),
        std=list(detector.transform.image_std),
        recipe=plain(config),
    )


def load_detector(path: str | Path) -> tuple[RetinaNet, DetectorMetadata]:
    """Make the detector that a weights file holds.

    Args:
        path: model.safetensors of a detector's run, or the run folder.

    Returns:
        The detector, on the CPU and in evaluation mode, and the file's metadata.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, holds no detector of ours, or does not fit the detector it names.
    """
    detector, metadata = load_any_weights(path, DetectorMetadata)
    return cast(RetinaNet, detector), metadata
