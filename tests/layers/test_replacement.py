"""`sasa.replace_convolutions`: which convolutions it takes, what it keeps of them, and real networks."""

from __future__ import annotations

import re
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import nn

import sasa
from sasa import LocalSelfAttention2d


def only(conv: nn.Module, **options: Any) -> LocalSelfAttention2d:
    """The attention layer that takes the place of one convolution."""
    model = nn.Sequential(conv)
    result = sasa.replace_convolutions(model, **options)
    assert result.skipped == {}
    assert model[0] is result.replaced["0"]
    return result.replaced["0"]


def reason(conv: nn.Module, **options: Any) -> str:
    """Why it is left."""
    model = nn.Sequential(conv)
    result = sasa.replace_convolutions(model, **options)
    assert model[0] is conv
    assert result.replaced == {}
    return result.skipped["0"]


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(6, 32, 3, padding=1),
        nn.Conv2d(6, 32, 3, padding="same", dilation=2),
        nn.Conv2d(6, 32, 4, padding="same"),
        nn.Conv2d(6, 32, 3, 2, padding=1),
        nn.Conv2d(6, 32, 7, 2, padding=3),
        nn.Conv2d(6, 32, 3, 2, padding=3, dilation=3),
        nn.Conv2d(6, 32, (5, 3), padding=(2, 1)),
        nn.Conv2d(6, 32, (1, 7), padding=(0, 3)),
        nn.Conv2d(6, 32, (3, 1), padding=(2, 0), dilation=(2, 5)),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")
def test_the_map_keeps_its_shape(conv: nn.Conv2d) -> None:
    layer = only(conv)
    for height, width in ((1, 1), (2, 9), (8, 7), (12, 12)):
        x = torch.randn(2, 6, height, width)
        assert layer(x).shape == conv(x).shape


def test_what_the_convolution_was_is_kept() -> None:
    conv = nn.Conv2d(6, 32, 3, 2, padding=2, dilation=2, bias=False, dtype=torch.float64).eval()
    layer = only(conv)
    assert (layer.in_channels, layer.out_channels, layer.stride, layer.dilation) == (6, 32, 2, (2, 2))
    assert (layer.kernel_size, layer.num_heads, layer.position, layer.content) == (
        (7, 7),
        8,
        "relative",
        True,
    )
    assert layer.qkv.bias is None
    assert layer.qkv.weight.dtype is layer.rel_row.dtype is torch.float64  # type: ignore[union-attr]
    assert not layer.training
    assert only(nn.Conv2d(6, 32, 3, padding=1)).qkv.bias is not None
    assert only(nn.Conv2d(6, 32, 3, padding=1)).training
    assert only(nn.Conv2d(6, 32, 3, padding=1, device="meta")).qkv.weight.is_meta


def test_what_was_frozen_stays_frozen() -> None:
    assert all(p.requires_grad for p in only(nn.Conv2d(6, 32, 3, padding=1)).parameters())
    frozen = only(nn.Conv2d(6, 32, 3, padding=1).requires_grad_(False))
    assert not any(p.requires_grad for p in frozen.parameters())
    conv = nn.Conv2d(6, 32, 3, padding=1)
    conv.weight.requires_grad_(False)
    learned = {name for name, p in only(conv).named_parameters() if p.requires_grad}
    assert learned == {"qkv.bias"}


def test_options_reach_the_layer() -> None:
    layer = only(
        nn.Conv2d(6, 12, 3, padding=1),
        kernel_size=(5, 3),
        num_heads=12,
        position="none",
        scale=0.5,
        backend="reference",
    )
    assert (layer.kernel_size, layer.num_heads, layer.position) == ((5, 3), 12, "none")
    assert (layer.scale, layer.backend) == (0.5, "reference")
    assert not only(nn.Conv2d(6, 32, 3, padding=1), content=False).content
    assert only(nn.Conv2d(6, 32, 3, padding=1), content_gain=True).content_gain is not None
    assert only(nn.Conv2d(6, 32, 3, padding=1, bias=False), bias=True).qkv.bias is not None
    depthwise = only(nn.Conv2d(16, 32, 3, 2, padding=2, dilation=2), dw_kernel_size=(3, 5)).dw
    assert depthwise is not None
    assert (depthwise.kernel_size, depthwise.stride, depthwise.padding) == ((3, 5), (2, 2), (2, 4))


def test_an_axis_that_the_convolution_does_not_see_stays_unseen() -> None:
    assert only(nn.Conv2d(6, 32, (1, 7), padding=(0, 3)), kernel_size=(5, 9)).kernel_size == (1, 9)
    assert only(nn.Conv2d(6, 32, (7, 1), padding=(3, 0)), kernel_size=(5, 9)).kernel_size == (5, 1)
    layer = only(nn.Conv2d(16, 32, (1, 7), padding=(0, 3)), kernel_size=5, dw_kernel_size=3)
    assert layer.dw is not None
    assert layer.dw.kernel_size == (1, 3)


def test_a_depthwise_convolution_needs_a_multiple_of_the_input_channels() -> None:
    words = "out_channels=32 is no multiple of in_channels=6, which the depthwise convolution needs"
    assert reason(nn.Conv2d(6, 32, 3, padding=1), dw_kernel_size=3) == words


class StandardisedConv2d(nn.Conv2d):
    """Does more than a Conv2d."""


def hooked() -> nn.Conv2d:
    conv = nn.Conv2d(6, 32, 3, padding=1)
    conv.register_forward_hook(lambda module, inputs, output: output * 2)
    return conv


@pytest.mark.parametrize(
    ("conv", "words"),
    [
        (nn.Conv2d(6, 32, 1), "1 × 1"),
        (nn.Conv2d(6, 32, 1, stride=2), "1 × 1"),
        (nn.Conv2d(32, 32, 3, padding=1, groups=4), "groups=4: attention mixes"),
        (nn.Conv2d(32, 32, 3, padding=1, groups=32), r"groups=32 \(depthwise\)"),
        (nn.Conv2d(6, 32, 4, stride=4), r"stride=\(4, 4\).*; padding=\(0, 0\)"),
        (nn.Conv2d(6, 32, 3, stride=(2, 1), padding=1), r"stride=\(2, 1\)"),
        (nn.Conv2d(6, 32, 3), r"padding=\(0, 0\) with kernel_size=\(3, 3\)"),
        (nn.Conv2d(6, 32, 3, padding="valid"), "padding=valid"),
        (nn.Conv2d(6, 32, 3, padding=(1, 0)), r"padding=\(1, 0\)"),
        (nn.Conv2d(6, 32, 3, padding=1, dilation=2), "dilation"),
        (nn.Conv2d(6, 32, 4, stride=2, padding=1), r"kernel_size=\(4, 4\)"),
        (nn.Conv2d(6, 32, 3, padding=1, padding_mode="circular"), "padding_mode='circular'"),
        (nn.Conv2d(6, 24, 3, padding=1), "out_channels=24 is no multiple of 16"),
        (nn.Conv2d(6, 32, 3, padding=1, dtype=torch.complex64), "complex64"),
        (nn.ConvTranspose2d(6, 32, 3, padding=1), "ConvTranspose2d is not a Conv2d"),
        (nn.Conv1d(6, 32, 3, padding=1), "Conv1d is not a Conv2d"),
        (nn.Conv3d(6, 32, 3, padding=1), "Conv3d is not a Conv2d"),
        (nn.LazyConv2d(32, 3, padding=1), "LazyConv2d is a subclass"),
        (StandardisedConv2d(6, 32, 3, padding=1), "StandardisedConv2d is a subclass of Conv2d"),
        (hooked(), "hooks"),
        (
            nn.utils.parametrizations.weight_norm(nn.Conv2d(6, 32, 3, padding=1)),
            "ParametrizedConv2d",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else value,
)
def test_what_is_left_says_why(conv: nn.Module, words: str) -> None:
    assert re.search(words, reason(conv))


def test_the_unit_of_the_channels_follows_the_heads_and_the_position() -> None:
    assert only(nn.Conv2d(6, 24, 3, padding=1), position="none").out_channels == 24
    assert only(nn.Conv2d(6, 24, 3, padding=1), num_heads=4).out_channels == 24
    assert "no multiple of 8" in reason(nn.Conv2d(6, 12, 3, padding=1), position="absolute")


def test_where_is_asked_of_every_convolution_once() -> None:
    shared = nn.Conv2d(32, 32, 3, padding=1)
    model = nn.ModuleDict(
        {
            "a": shared,
            "b": nn.Sequential(nn.Conv2d(32, 32, 1), nn.ReLU()),
            "c": nn.Conv2d(32, 32, 3, padding=1),
        }
    )
    model["d"] = shared
    asked = []

    def filter_fn(name: str, module: nn.Module) -> bool:
        asked.append((name, module))
        return name != "c"

    expected = [("a", model["a"]), ("b.0", model["b"][0]), ("c", model["c"])]  # type: ignore[index]
    result = sasa.replace_convolutions(model, filter_fn=filter_fn)
    assert asked == expected
    assert list(result.replaced) == ["a"]
    assert list(result.skipped) == ["b.0", "c"]
    assert "filter_fn" in result.skipped["c"]


def test_a_module_of_two_names_becomes_one_layer() -> None:
    conv = nn.Conv2d(32, 32, 3, padding=1)
    block = nn.Sequential(conv, nn.ReLU())
    model = nn.ModuleList([block, nn.Sequential(conv), block])
    result = sasa.replace_convolutions(model)
    layer = result.replaced["0.0"]
    assert model[0][0] is model[1][0] is model[2][0] is layer  # type: ignore[index]
    assert list(result.replaced) == ["0.0"]
    assert len(list(model.parameters())) == len(list(layer.parameters()))


def test_layers_of_ours_are_not_looked_into() -> None:
    model = nn.Sequential(sasa.AttentionStem(values="convolution"), LocalSelfAttention2d(64, 64))
    before = list(model.modules())
    result = sasa.replace_convolutions(model)
    assert (result.replaced, result.skipped) == ({}, {})
    assert list(model.modules()) == before


def test_the_result_prints_as_a_report() -> None:
    model = nn.Sequential(nn.Conv2d(6, 32, 3, padding=1), nn.Conv2d(32, 4, 1))
    lines = str(sasa.replace_convolutions(model)).splitlines()
    assert lines[0] == "1 convolutions replaced, 1 skipped"
    assert lines[1].startswith("0: LocalSelfAttention2d(")
    assert lines[2].startswith("1: skipped, 1 × 1")


def test_the_model_must_contain_convolutions_not_be_one() -> None:
    with pytest.raises(ValueError, match=r"model: .* got one itself \(Conv2d\)"):
        sasa.replace_convolutions(nn.Conv2d(6, 32, 3, padding=1))
    with pytest.raises(TypeError, match=r"model: expected a torch\.nn.Module, got str"):
        sasa.replace_convolutions("resnet18")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"kernel_size": 4}, ValueError, "kernel_size"),
        ({"num_heads": 0}, ValueError, "num_heads"),
        ({"num_heads": "8"}, TypeError, "num_heads"),
        ({"position": "rotary"}, ValueError, "position"),
        ({"position": "none", "content": False}, ValueError, "content"),
        ({"scale": "1"}, TypeError, "scale"),
        ({"backend": "fast"}, ValueError, "backend"),
    ],
)
def test_wrong_options_are_said_whatever_the_model(
    options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        sasa.replace_convolutions(nn.Sequential(nn.Linear(2, 2)), **options)


# Network, how many convolutions become attention, and the beginnings of the reasons why others stay.
NETWORKS = [
    ("torchvision", "resnet18", 17, {"1 × 1"}),
    ("torchvision", "densenet121", 59, {"1 × 1"}),
    ("torchvision", "squeezenet1_1", 8, {"1 × 1", "padding=(0, 0)"}),
    ("torchvision", "mobilenet_v2", 1, {"1 × 1", "groups="}),
    ("timm", "resnet26d", 11, {"1 × 1"}),
    ("timm", "resnext26ts", 2, {"1 × 1", "groups=", "out_channels=24"}),
    ("timm", "resnetv2_50d_gn", 19, {"1 × 1"}),
    ("timm", "convnext_atto", 0, {"groups=", "stride=(4, 4)", "padding=(0, 0)", "1 × 1"}),
]


@pytest.mark.parametrize(("library", "name", "count", "reasons"), NETWORKS)
def test_real_networks(library: str, name: str, count: int, reasons: set[str]) -> None:
    torch.manual_seed(0)
    create = timm.create_model if library == "timm" else torchvision.models.get_model
    model = create(name, num_classes=3)
    convolutions = {key: m for key, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    shapes: list[torch.Size] = []
    spatial = [m for m in convolutions.values() if m.kernel_size != (1, 1)]
    handles = [m.register_forward_hook(lambda m, x, y: shapes.append(y.shape)) for m in spatial]
    x = torch.randn(2, 3, 65, 47)
    with torch.no_grad():
        model.eval()(x)
    for handle in handles:
        handle.remove()
    result = sasa.replace_convolutions(model, kernel_size=3)
    assert result.replaced.keys() | result.skipped.keys() == convolutions.keys()
    assert len(result.replaced) == count
    assert {next(r for r in reasons if text.startswith(r)) for text in result.skipped.values()} == reasons
    before, shapes = shapes, []
    for key, conv in convolutions.items():
        if conv in spatial:
            layer = model.get_submodule(key)
            assert (layer is conv) == (key in result.skipped)
            layer.register_forward_hook(lambda m, x, y: shapes.append(y.shape))
    model.train()(x).sum().backward()
    assert shapes == before
    for layer in result.replaced.values():
        assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())


def test_torchvisions_resnet50_becomes_the_papers() -> None:
    with torch.device("meta"):
        model = torchvision.models.resnet50()
        ours = sasa.create_model("sasa_resnet50_convstem")
    sasa.replace_convolutions(model, filter_fn=lambda name, conv: name != "conv1")
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in ours.parameters())
