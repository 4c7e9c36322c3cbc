"""A detector on the backbone of a classifier that was trained before."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sasa.detection import RetinaNet, create_retinanet
from sasa.train.weights import WeightsMetadata, check_shapes, read_weights, weights_path

FETCH = ("pretrained", "checkpoint_path", "pretrained_cfg_overlay")
"""Options of timm that fetch weights, for networks whose weights are loaded here."""


def retinanet_from_classifier(path: str | Path, num_classes: int, **options: Any) -> RetinaNet:
    """Build a detector whose backbone is a classifier's: its network, options, weights, mean and deviation.

    Detectors see RGB: a classifier of gray images is given the mean of the three channels.

    Args:
        path: A file of save_weights, a run folder with one, or "built-in", the classifier that comes with
            sasa.
        num_classes: Of the detector; the classifier's own classes play no part.
        options: Those of `sasa.detection.create_retinanet` beside backbone and backbone_options, such as
            frozen_batch_norm=True, which keeps the classifier's batch norms.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, not one of ours, or its network cannot be a backbone.
    """
    state, about = read_classifier(path)
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


def read_classifier(path: str | Path) -> tuple[dict[str, Tensor], WeightsMetadata]:
    """Weights and metadata of a classifier, as one of RGB images; raises as load_weights does."""
    state, about = read_weights(path, WeightsMetadata)
    about = replace(about, options={key: value for key, value in about.options.items() if key not in FETCH})
    if about.input_size[0] == 3:
        return state, about
    with torch.device("meta"):
        network = about.create_model()
    check_shapes(network, state, weights_path(path))
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d) and module.in_channels == module.groups == 1:
            weight = state[f"{name}.weight"]
            state[f"{name}.weight"] = weight.expand(-1, 3, -1, -1) / 3
    return state, replace(
        about, input_size=[3, *about.input_size[1:]], mean=about.mean * 3, std=about.std * 3
    )
