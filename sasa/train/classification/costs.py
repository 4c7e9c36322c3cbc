"""Parameters and FLOPs of a network and of its convolutional baseline."""

from __future__ import annotations

from typing import Any

from torch import nn

from sasa.models import SASAResNet, conv_baseline, cost
from sasa.train.classification.weights import WeightsMetadata


def costs(network: nn.Module, metadata: WeightsMetadata) -> dict[str, Any]:
    """The cost of a network, for results.json.

    Args:
        network: The network.
        metadata: Its metadata.

    Returns:
        parameters, and for a SASAResNet also flops (of the forward pass of one image), baseline_parameters
        and baseline_flops; see `sasa.cost` and `sasa.models.conv_baseline`.
    """
    if not isinstance(network, SASAResNet):
        return {"parameters": sum(parameter.numel() for parameter in network.parameters())}
    channels, height, width = metadata.input_size
    size = (channels, height, width)
    baseline = conv_baseline(
        metadata.model, num_classes=len(metadata.classes), in_chans=channels, **metadata.options
    )
    own, other = cost(network, size), cost(baseline, size)
    return {
        "parameters": own.parameters,
        "flops": own.flops,
        "baseline_parameters": other.parameters,
        "baseline_flops": other.flops,
    }
