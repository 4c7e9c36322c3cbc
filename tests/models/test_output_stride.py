"""output_stride: the last stages keep the resolution, and dilate by what they no longer stride."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from . import networks

# Per stage the dilation of its first block and of the others.
DILATIONS = {
    32: [(1, 1), (1, 1), (1, 1), (1, 1)],
    16: [(1, 1), (1, 1), (1, 1), (1, 2)],
    8: [(1, 1), (1, 1), (1, 2), (2, 4)],
}


@pytest.mark.parametrize("name", ["sasa_resnet50", "sasa_resnet50_conv", "sasa_resnet50_convstem"])
@pytest.mark.parametrize("output_stride", [32, 16, 8])
def test_dilation_and_map_sizes(name: str, output_stride: int) -> None:
    options = {} if name.endswith("_conv") else {"kernel_size": 3}  # quicker
    model = networks.on_meta(name, output_stride=output_stride, **options)
    for i, (first, others) in enumerate(DILATIONS[output_stride], start=1):
        stage = model.get_submodule(f"layer{i}")
        assert [block.spatial.dilation for block in stage] == [(first, first)] + [(others, others)] * (
            len(stage) - 1
        )
    maps = model.forward_intermediates(torch.empty(1, 3, 160, 96, device="meta"), 4, intermediates_only=True)
    for x, info in zip(maps, model.feature_info[-4:], strict=True):
        assert x.shape[2:] == (160 // info["reduction"], 96 // info["reduction"])
    assert model.feature_info[-1]["reduction"] == output_stride


@pytest.mark.parametrize(
    "options", [{}, {"output_stride": 8}, {"stem_stride": 1, "output_stride": 8}], ids=str
)
def test_runs(options: dict[str, Any]) -> None:
    model = networks.narrow("sasa_resnet26", num_classes=5, **options)
    assert model(networks.images(1, 3, 40, 33)).shape == (1, 5)


def test_same_parameters_at_every_stride() -> None:
    shapes = [
        {n: p.shape for n, p in networks.on_meta("sasa_resnet50", output_stride=stride).named_parameters()}
        for stride in (8, 16, 32)
    ]
    assert shapes[0] == shapes[1] == shapes[2]
