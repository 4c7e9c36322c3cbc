"""What the trained network costs, beside its convolutional twin."""

from __future__ import annotations

from typing import Any

from torch import nn

from sasa.models import SASAResNet, conv_baseline, cost
from sasa.train.weights import WeightsMetadata


def costs(network: nn.Module, metadata: WeightsMetadata) -> dict[str, Any]:
    """Parameters of a network; of one of ours also the FLOPs of an image, and both of its twin.

    Returns:
        parameters, and for a SASAResNet flops, baseline_parameters and baseline_flops; see `sasa.cost` and
        `sasa.models.conv_baseline`.
    """
    if not isinstance(network, SASAResNet):
        return {"parameters": sum(parameter.numel() for parameter in network.parameters())}
    channels, height, width = metadata.input_size
    size = (channels, height, width)
    twin = conv_baseline(
        metadata.model, num_classes=len(metadata.classes), in_chans=channels, **metadata.options
    )
    ours, theirs = cost(network, size), cost(twin, size)
    return {
        "parameters": ours.parameters,
        "flops": ours.flops,
        "baseline_parameters": theirs.parameters,
        "baseline_flops": theirs.flops,
    }
