"""Detectors whose backbone is a trained classifier."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sasa.detection import RetinaNet, create_retinanet
from sasa.train.classification.weights import WeightsMetadata
from sasa.train.state_dicts import without_prefixes
from sasa.train.weights import check_shapes, create_described, read_weights, weights_path


def retinanet_from_classifier(path: str | Path, num_classes: int, **options: Any) -> RetinaNet:
    """Build a detector whose backbone is a classifier, with its options, weights, mean and std.

    Detectors take RGB images. A classifier for grayscale images receives the mean of the three channels.

    Args:
        path: A run folder, a safetensors file of save_weights, or "built-in", the classifier that comes with
            sasa.
        num_classes: Number of classes of the detector; those of the classifier do not matter.
        options: Options for `sasa.detection.create_retinanet` other than backbone and backbone_options, such
            as frozen_batch_norm=True, which keeps the batch norms of the classifier.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged or was not written by sasa, or its network cannot be a backbone.
    """
    state, metadata = read_classifier(path)
    detector = create_retinanet(
        metadata.model,
        num_classes,
        backbone_options={**metadata.options, "in_chans": metadata.input_size[0]},
        **{"image_mean": metadata.mean, "image_std": metadata.std, **options},
    )
    try:
        detector.backbone.load_classifier(state)
    except ValueError as error:
        raise ValueError(f"{weights_path(path)}: {error}") from error
    return detector


def read_classifier(path: str | Path) -> tuple[dict[str, Tensor], WeightsMetadata]:
    """Weights and metadata of a classifier, converted to RGB images; errors are those of load_weights."""
    state, metadata = read_weights(path, WeightsMetadata)
    state = without_prefixes(state)
    if metadata.input_size[0] == 3:
        return state, metadata
    with torch.device("meta"):
        network = create_described(metadata, path)
    check_shapes(network, state, weights_path(path))
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d) and module.in_channels == module.groups == 1:
            weight = state[f"{name}.weight"]
            state[f"{name}.weight"] = weight.expand(-1, 3, -1, -1) / 3
    return state, replace(
        metadata, input_size=[3, *metadata.input_size[1:]], mean=metadata.mean * 3, std=metadata.std * 3
    )
