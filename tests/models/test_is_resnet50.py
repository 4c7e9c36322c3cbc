"""The conv baseline is the ResNet-50 v1.5 that timm and torchvision have: same weights, same output."""

from __future__ import annotations

import pytest
import timm
import torch
import torchvision
from torch import nn

from sasa.models import checkpoint_filter_fn

from . import networks


def teacher(kind: str) -> nn.Module:
    if kind == "timm":
        return timm.create_model("resnet50", num_classes=11)
    return torchvision.models.resnet50(num_classes=11)


@pytest.mark.parametrize("kind", ["timm", "torchvision"])
def test_same_output_for_copied_weights(kind: str) -> None:
    theirs = teacher(kind).eval()
    networks.randomize(theirs)
    ours = networks.narrow("sasa_resnet50_conv", width_mult=1.0, num_classes=11)
    ours.load_state_dict(checkpoint_filter_fn(theirs.state_dict()), strict=True)
    x = networks.images(2, 3, 75, 64)
    with torch.no_grad():
        want = theirs(x)
        assert want.abs().max() > 1
        torch.testing.assert_close(ours(x), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("output_stride", [16, 8])
def test_same_map_where_the_stride_is_kept_and_the_stages_dilate(output_stride: int) -> None:
    theirs = timm.create_model("resnet50", num_classes=0, output_stride=output_stride).eval()
    networks.randomize(theirs)
    ours = networks.narrow("sasa_resnet50_conv", width_mult=1.0, num_classes=0, output_stride=output_stride)
    ours.load_state_dict(checkpoint_filter_fn(theirs.state_dict()), strict=True)
    x = networks.images(1, 3, 64, 72)
    with torch.no_grad():
        want = theirs.forward_features(x)
        assert want.shape[2:] == (64 // output_stride, -(-72 // output_stride))
        torch.testing.assert_close(ours.forward_features(x), want, rtol=1e-5, atol=1e-5)


def test_training_mode_too() -> None:
    theirs = teacher("torchvision").train()
    networks.randomize(theirs)
    ours = networks.narrow("sasa_resnet50_conv", width_mult=1.0, num_classes=11).train()
    ours.load_state_dict(checkpoint_filter_fn(theirs.state_dict()), strict=True)
    x = networks.images(4, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-4)
    for name, statistic in checkpoint_filter_fn(theirs.state_dict()).items():
        torch.testing.assert_close(ours.state_dict()[name], statistic, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", networks.NAMES)
def test_our_own_names_pass_unchanged(name: str) -> None:
    own = networks.on_meta(name).state_dict()
    assert list(checkpoint_filter_fn(own)) == list(own)
