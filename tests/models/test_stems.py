"""The stems: what each is made of and which map it leaves."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sasa import AttentionStem
from sasa.models.sasa_resnet import STEM_TYPES

from . import networks


@pytest.mark.parametrize("stem", STEM_TYPES)
@pytest.mark.parametrize("pooled", [4, 2, 1])
@pytest.mark.parametrize("size", [28, 32, 45])
def test_maps(stem: str, pooled: int, size: int) -> None:
    model = networks.tiny(stem=stem, stem_stride=pooled)
    x = networks.images(2, 3, size, size)
    own = 2 if (stem, pooled) == ("conv", 4) else pooled  # without the max pooling
    out = model.stem(x)
    assert out.shape == (2, 16, -(-size // own), -(-size // own))
    assert model.maxpool(out).shape[2] == -(-size // pooled)
    assert model.forward_features(x).shape[2] == -(-size // (8 * pooled))
    reductions = [info["reduction"] for info in model.feature_info]
    assert reductions == [own] * (own < pooled) + [pooled, 2 * pooled, 4 * pooled, 8 * pooled]
    assert model(x).shape == (2, 5)


@pytest.mark.parametrize("stem", ["spatially_aware", "convolution", "pointwise"])
def test_attention_stems(stem: str) -> None:
    model = networks.on_meta("sasa_resnet26", stem=stem)
    assert isinstance(model.stem, AttentionStem)
    assert (model.stem.values, model.stem.block_size, model.stem.num_heads) == (stem, 4, 4)
    assert model.stem.max_pool
    assert isinstance(model.maxpool, nn.Identity)


def test_conv_stem_is_resnets() -> None:
    model = networks.on_meta("sasa_resnet26_convstem")
    conv = model.stem.conv1
    assert (conv.kernel_size, conv.stride, conv.padding, conv.bias) == ((7, 7), (2, 2), (3, 3), None)
    assert (model.maxpool.kernel_size, model.maxpool.stride, model.maxpool.padding) == (3, 2, 1)


@pytest.mark.parametrize(("stride", "block_size", "max_pool"), [(1, 4, False), (2, 2, True)])
def test_stems_for_small_images(stride: int, block_size: int, max_pool: bool) -> None:
    attention = networks.on_meta("sasa_resnet26", stem_stride=stride).stem
    assert isinstance(attention, AttentionStem)
    assert (attention.values, attention.num_heads) == ("spatially_aware", 4)
    assert (attention.block_size, attention.max_pool) == (block_size, max_pool)
    for variant in ("_convstem", "_conv"):
        model = networks.on_meta(f"sasa_resnet26{variant}", stem_stride=stride)
        conv = model.stem.conv1
        assert (conv.kernel_size, conv.stride, conv.padding) == ((3, 3), (stride, stride), (1, 1))
        assert isinstance(model.maxpool, nn.Identity)


@pytest.mark.parametrize("stem", STEM_TYPES)
def test_every_part_of_the_stem_learns(stem: str) -> None:
    model = networks.tiny(stem=stem).train()
    nn.functional.cross_entropy(model(networks.images(2, 3, 32, 32)), torch.tensor([0, 4])).backward()
    assert all(p.grad is not None and p.grad.any() for p in model.stem.parameters())
