"""The options of SASAResNet reach the layers, by every way to a network; wrong ones are named."""

from __future__ import annotations

import operator
from typing import Any

import pytest
import torch
from torch import nn

import sasa
from sasa import LocalSelfAttention2d
from sasa.models.options import network_options

from . import networks


def attention_layers(model: nn.Module) -> list[LocalSelfAttention2d]:
    return [module for module in model.modules() if isinstance(module, LocalSelfAttention2d)]


@pytest.mark.parametrize(
    ("options", "attribute", "value"),
    [
        ({"kernel_size": 5}, "kernel_size", (5, 5)),
        ({"num_heads": 4}, "num_heads", 4),
        ({"position": "absolute"}, "position", "absolute"),
        ({"content": False}, "content", False),
        ({"dw_kernel_size": 3}, "dw.kernel_size", (3, 3)),
        ({"scale": 0.5}, "scale", 0.5),
        ({"backend": "reference"}, "backend", "reference"),
    ],
)
def test_attention_options_reach_every_layer(options: dict[str, Any], attribute: str, value: object) -> None:
    layers = attention_layers(networks.on_meta("sasa_resnet26", **options))
    assert len(layers) == 8
    assert {operator.attrgetter(attribute)(layer) for layer in layers} == {value}


def test_what_a_layer_has_beside_the_papers() -> None:
    for layer in attention_layers(networks.on_meta("sasa_resnet26", content_gain=True, qkv_bias=True)):
        assert layer.content_gain is not None
        assert layer.qkv.bias is not None
        assert layer.dw is None


def test_the_additions_of_sasav2_can_be_left_out() -> None:
    """timm drops options that are None, so each is left out by another value."""
    options = {"content_gain": False, "dw_kernel_size": 0, "qkv_bias": False}
    model = networks.on_meta("sasav2_resnet26_convstem", **options)
    assert repr(model) == repr(networks.on_meta("sasa_resnet26_convstem"))


def test_defaults_are_the_papers() -> None:
    for layer in attention_layers(networks.on_meta("sasa_resnet26")):
        assert (layer.kernel_size, layer.num_heads, layer.position) == ((7, 7), 8, "relative")
        assert (layer.content, layer.scale, layer.dilation, layer.backend) == (True, 1.0, (1, 1), "auto")
        assert layer.content_gain is None
        assert layer.dw is None
        assert layer.qkv.bias is None


def test_other_options_reach_the_network() -> None:
    model = networks.on_meta(
        "sasa_resnet26",
        num_classes=7,
        in_chans=1,
        width_mult=0.5,
        stage_types=("conv", "attention", "conv", "attention"),
        stem="conv",
        output_stride=16,
        global_pool="max",
        drop_rate=0.1,
        drop_path_rate=0.2,
    )
    assert model.fc.weight.shape == (7, 1024)
    assert model.stem[0].weight.shape == (32, 1, 7, 7)
    kinds = [type(model.get_submodule(f"layer{i}")[0].spatial) for i in range(1, 5)]
    assert kinds == [nn.Conv2d, LocalSelfAttention2d, nn.Conv2d, LocalSelfAttention2d]
    assert model.feature_info[-1]["reduction"] == 16
    assert model.global_pool.pool_type == "max"
    assert model.drop_rate == 0.1
    assert model.layer4[0].drop_path.drop_prob == pytest.approx(0.2)


@pytest.mark.parametrize("name", networks.VARIANTS)
@pytest.mark.parametrize("width", [0.5, 1.25, 2.0])
def test_width_scales_every_width(name: str, width: float) -> None:
    full, scaled = networks.on_meta(name), networks.on_meta(name, width_mult=width, num_classes=0)
    assert scaled.num_features == 2048 * width
    for (key, a), b in zip(full.named_modules(), scaled.modules(), strict=True):
        if isinstance(a, nn.BatchNorm2d):
            assert b.num_features == width * a.num_features, key


@pytest.mark.parametrize("device_and_dtype", [{"device": "meta"}, {"dtype": torch.float64}], ids=str)
def test_device_and_dtype(device_and_dtype: dict[str, Any]) -> None:
    model = networks.tiny(**device_and_dtype)
    for key, value in device_and_dtype.items():
        assert {str(getattr(p, key)) for p in model.parameters()} == {str(value)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stage_types": ("attention",) * 3}, r"stage_types: expected four of .*'attention'"),
        ({"stage_types": "conv"}, r"stage_types: expected four of .* got 'conv'"),
        ({"stage_types": ("conv", "conv", "conv", "pool")}, r"stage_types: expected four of .*'pool'"),
        ({"stem": "large"}, r"stem: expected one of .*'spatially_aware'.*, got 'large'"),
        ({"output_stride": 4}, r"output_stride: expected 8, 16 or 32, got 4"),
        ({"width_mult": 0}, r"width_mult: expected a factor of at least 1/64, got 0"),
        ({"width_mult": -1.0}, r"width_mult: expected a factor of at least 1/64, got -1"),
        ({"width_mult": float("nan")}, r"width_mult: expected a factor of at least 1/64, got nan"),
        ({"width_mult": 0.001, "stem": "conv"}, r"width_mult: expected a factor .* got 0.001"),
        (
            {"width_mult": 0.001, "stem": "conv", "stage_types": ("conv",) * 4},
            r"width_mult: expected a factor .* got 0.001",
        ),
        ({"num_heads": 7}, r"out_channels=64 and num_heads=7"),
        ({"num_heads": 64}, r"out_channels=64 and num_heads=64"),
        ({"width_mult": 0.125, "stem": "conv"}, r"out_channels=8 and num_heads=8: expected a multiple of 16"),
        ({"width_mult": 0.3}, r"width_mult: expected a multiple of 1/8, .* got 0\.3"),
        ({"position": "learned"}, r"position: expected one of"),
        ({"position": "learned", "stem": "conv", "stage_types": ("conv",) * 4}, r"position: expected one of"),
        ({"position": "none", "content": False}, r"content: "),
        ({"kernel_size": 4}, r"kernel_size: expected odd sizes, got 4"),
        ({"drop_rate": 1.5}, r"drop_rate: .* got 1.5"),
        ({"drop_path_rate": 1.0}, r"drop_path_rate: .* got 1.0"),
    ],
)
def test_wrong_values(options: dict[str, Any], message: str) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        sasa.create_model("sasa_resnet26", **options)


def test_unknown_option_is_named() -> None:
    with pytest.raises(
        TypeError,
        match="options: expected those of sasa_resnet26, got 'widht_mult'; did you mean 'width_mult'",
    ):
        sasa.create_model("sasa_resnet26", widht_mult=0.5)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("sasa_resnet26_convstm", "did you mean 'sasa_resnet26_convstem'?"),
        ("sasaresnet50", "did you mean 'sasa_resnet50'?"),
        ("?", "the networks of sasa are sasa_resnet26, "),
    ],
)
def test_unknown_name_suggests_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(ValueError, match="name: expected a network of sasa or timm, got") as error:
        sasa.create_model(name)
    assert repr(name) in str(error.value)
    assert hint in str(error.value)


def test_timms_other_models_are_made_too() -> None:
    with torch.device("meta"):
        assert type(sasa.create_model("resnet18")).__name__ == "ResNet"


def test_options_that_build_the_network_are_kept_and_those_that_choose_weights_are_not() -> None:
    ours = {"width_mult": 0.5, "stage_types": ["conv"] * 4, "features_only": True, "out_indices": [1]}
    theirs = {"pretrained": True, "checkpoint_path": "x", "cache_dir": "x", "pretrained_strict": False}
    assert network_options({**ours, **theirs, "device": "meta"}) == ours


def test_of_pretrained_settings_what_shapes_the_network_is_kept() -> None:
    """timm takes a fixed input size from them."""
    cfg = {"url": "http://127.0.0.1:9/x", "hf_hub_id": "a/b", "file": "x", "input_size": [3, 80, 80]}
    options = {"pretrained_cfg": "a_tag", "pretrained_cfg_overlay": cfg}
    assert network_options(options) == {
        "pretrained_cfg": "a_tag",
        "pretrained_cfg_overlay": {"input_size": [3, 80, 80]},
    }
    assert network_options({"pretrained_cfg_overlay": {"url": "x"}}) == {}
    network = sasa.create_model("test_vit", **network_options({"pretrained_cfg_overlay": cfg}))
    assert network.patch_embed.img_size == (80, 80)  # type: ignore[union-attr]
