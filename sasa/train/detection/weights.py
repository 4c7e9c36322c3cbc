"""The trained weights of detectors."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import sasa
from sasa.detection import RetinaNet, create_retinanet
from sasa.models.options import INITIAL_WEIGHTS, network_options
from sasa.train.config_files import plain
from sasa.train.detection.config import DetectionConfig
from sasa.train.detection.from_classifier import read_classifier, retinanet_from_classifier
from sasa.train.initial_weights import initial_weights_of
from sasa.train.weights import load_network

_BACKBONE = "sasa_resnet26"


@dataclass(frozen=True)
class DetectorMetadata:
    """The metadata of a detector's weights file.

    Attributes:
        backbone: Name of the backbone.
        backbone_options: Options for sasa.create_model that build the network. Those that choose its initial
            weights, such as pretrained, are left out, see `sasa.models.options.network_options`.
        options: Options for sasa.detection.create_retinanet.
        classes: Names of the classes, by label.
        size: Longer side of an image in evaluation, in pixels.
        mean: Mean of each channel, for pixels in [0, 1].
        std: Standard deviation of each channel.
        metrics: COCO's metrics on the test images, in [0, 1], each None if it is undefined; None if not
            evaluated.
        recipe: Configuration of the training run, as in config.yaml; None if unknown.
        sasa_version: Version of sasa that wrote the file.
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

    def __post_init__(self) -> None:
        object.__setattr__(self, "backbone_options", network_options(self.backbone_options))

    def create_model(self) -> RetinaNet:
        """The detector, with new weights; nothing is downloaded, and no file is opened."""
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
    config: DetectionConfig, classes: list[str], size: int, *, initial: bool = True
) -> tuple[RetinaNet, DetectorMetadata]:
    """Build the detector of a run, with its initial weights.

    Args:
        config: The configuration.
        classes: Names of the classes, by label.
        size: Size of the images, in pixels.
        initial: Whether a backbone that starts from weights of timm gets them; False if those of a checkpoint
            follow.

    Returns:
        The detector and its metadata.

    Raises:
        FileNotFoundError: There is no such classifier.
        TypeError: An option is unknown.
        ValueError: The classifier or an option is invalid.
    """
    model, data = config.model, config.data
    backbone, backbone_options = model.backbone or _BACKBONE, model.backbone_options
    options = {**model.options, "frozen_batch_norm": model.frozen_batch_norm}
    images: dict[str, Any] = {"min_size": size, "max_size": size}
    for key, value in (("image_mean", data.mean), ("image_std", data.std)):
        if value is not None:
            images[key] = value
    if not initial:
        backbone_options = {
            key: value for key, value in backbone_options.items() if key not in INITIAL_WEIGHTS
        }
    if model.classifier is None:
        with initial_weights_of("model.backbone_options", backbone_options):
            detector = create_retinanet(
                backbone, len(classes), backbone_options=backbone_options, **options, **images
            )
    else:
        _, metadata = read_classifier(model.classifier)
        backbone, backbone_options = metadata.model, metadata.options
        detector = retinanet_from_classifier(model.classifier, len(classes), **options, **images)
    return detector, DetectorMetadata(
        backbone=backbone,
        backbone_options=dict(backbone_options),
        options=options,
        classes=classes,
        size=size,
        mean=list(detector.transform.image_mean),
        std=list(detector.transform.image_std),
        recipe=plain(config),
    )


def load_detector(path: str | Path) -> tuple[RetinaNet, DetectorMetadata]:
    """Load a detector.

    Args:
        path: A run folder, or its safetensors file.

    Returns:
        The detector, on the CPU and in evaluation mode, and its metadata.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged, holds no detector of sasa, or does not fit the detector that it
            describes.
    """
    detector, metadata = load_network(path, DetectorMetadata)
    return cast(RetinaNet, detector), metadata
