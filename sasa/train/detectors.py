"""A detector on the backbone of a classifier that was trained before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sasa.detection import RetinaNet, create_retinanet
from sasa.train.weights import WeightsMetadata, read_weights, weights_path


def retinanet_from_classifier(path: str | Path, num_classes: int, **options: Any) -> RetinaNet:
    """Build a detector whose backbone is a classifier's: its network, options, weights, mean and deviation.

    Args:
        path: A file of save_weights, or a run folder with one.
        num_classes: Of the detector; the classifier's own classes play no part.
        options: Those of `sasa.detection.create_retinanet` beside backbone and backbone_options, such as
            frozen_batch_norm=True, which keeps the classifier's batch norms.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, not one of ours, or its network cannot be a backbone.
    """
    state, about = read_weights(path, WeightsMetadata)
    detector = create_retinanet(
        about.model,
        num_classes,
        backbone_options={**about.options, "in_chans": about.input_size[0]},
        **{"image_mean": about.mean, "image_std": about.std, **options},
    )
    try:
        detector.backbone.load_classifier(state)
    except ValueError as error:
        raise ValueError(f"{weights_path(path)}: {error}") from error
    return detector
