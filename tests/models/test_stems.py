"""The stems: what each is made of and which map it leaves."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sasa import AttentionStem

from . import networks

# Strides of the stem and of stem and pool together.
STRIDES = {
    "spatially_aware": (4, 4),
    "convolution": (4, 4),
    "pointwise": (4, 4),
    "conv": (2, 4),
    "small_attention": (1, 1),
    "small_conv": (1, 1),
}


@pytest.mark.parametrize("stem", STRIDES)
@pytest.mark.parametrize("size", [28, 32, 45])
def test_maps(stem: str, size: int) -> None:
    model = networks.tiny(stem=stem)
    x = networks.images(2, 3, size, size)
    own, pooled = STRIDES[stem]
    out = model.stem(x)
    assert out.shape == (2, 16, -(-size // own), -(-size // own))
    assert model.maxpool(out).shape[2] == -(-size // pooled)
    assert model.forward_features(x).shape[2] == -(-size // (8 * pooled))
    reductions = [info["reduction"] for info in model.feature_info]
    assert reductions == [own, pooled, 2 * pooled, 4 * pooled, 8 * pooled]
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


@pytest.mark.parametrize("depth", [26, 38, 50])
@pytest.mark.parametrize(
    ("variant", "stem"), [("", "small_attention"), ("_convstem", "small_conv"), ("_conv", "small_conv")]
)
def test_small_is_the_small_form_of_the_networks_own_stem(depth: int, variant: str, stem: str) -> None:
    short, long = (networks.on_meta(f"sasa_resnet{depth}{variant}", stem=s) for s in ("small", stem))
    assert repr(short) == repr(long)


def test_small_stems() -> None:
    attention = networks.tiny(stem="small_attention").stem
    assert isinstance(attention, AttentionStem)
    assert (attention.values, attention.block_size, attention.max_pool) == ("spatially_aware", 4, False)
    conv = networks.tiny(stem="small_conv").stem.conv1
    assert (conv.kernel_size, conv.stride, conv.padding) == ((3, 3), (1, 1), (1, 1))


@pytest.mark.parametrize("stem", STRIDES)
def test_every_part_of_the_stem_learns(stem: str) -> None:
    model = networks.tiny(stem=stem).train()
    nn.functional.cross_entropy(model(networks.images(2, 3, 32, 32)), torch.tensor([0, 4])).backward()
    assert all(p.grad is not None and p.grad.any() for p in model.stem.parameters())
