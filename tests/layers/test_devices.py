"""The stem and the fused path make every tensor on their input's device; "meta" stands for another."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import sasa


@pytest.mark.parametrize("values", ["spatially_aware", "pointwise", "convolution"])
@pytest.mark.parametrize("training", [True, False])
def test_stem(values: str, training: bool) -> None:
    stem = sasa.AttentionStem(values=values, device="meta").train(training)
    out = stem(torch.empty(2, 3, 33, 35, device="meta"))
    assert (out.device.type, out.shape) == ("meta", (2, 64, 9, 9))
    out.sum().backward()
    assert all(parameter.grad is not None for parameter in stem.parameters())


@pytest.mark.parametrize("values", ["spatially_aware", "pointwise", "convolution"])
def test_fused(values: str) -> None:
    layers = [
        sasa.AttentionStem(values=values, device="meta"),
        sasa.LocalSelfAttention2d(64, 32, 7, stride=2, device="meta"),
        nn.BatchNorm2d(32, device="meta"),
        nn.ReLU(),
    ]
    out = sasa.fuse(nn.Sequential(*layers).eval())(torch.empty(2, 3, 33, 35, device="meta"))
    assert (out.device.type, out.shape) == ("meta", (2, 32, 5, 5))
