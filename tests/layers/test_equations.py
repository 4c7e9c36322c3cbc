"""`LocalSelfAttention2d` is the paper's Eq. 2 and 3: compared with loops, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from sasa import LocalSelfAttention2d

from . import loops

# What each variant changes of a 4 → 12 layer with 3 heads and a 3 × 3 window.
VARIANTS: dict[str, dict[str, Any]] = {
    "relative": {},
    "absolute": {"position": "absolute"},
    "none": {"position": "none"},
    "position alone": {"content": False},
    "stride 2": {"stride": 2},
    "rectangular": {"kernel_size": (5, 3)},
    "dilated": {"kernel_size": (3, 5), "dilation": (1, 2)},
    "bias": {"bias": True},
    "bias, position alone": {"bias": True, "content": False},
    "scaled": {"scale": 0.3},
    "window larger than the map": {"kernel_size": 17},
    "everything": {"kernel_size": (5, 3), "dilation": (2, 1), "stride": 2, "bias": True, "scale": 2.0},
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("size", [(5, 7), (4, 3), (1, 1)], ids=str)
def test_is_the_equation(variant: str, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    options = {"kernel_size": 3, "num_heads": 3, **VARIANTS[variant]}
    layer = LocalSelfAttention2d(4, 12, **options, dtype=torch.float64)
    if layer.qkv.bias is not None:
        torch.nn.init.normal_(layer.qkv.bias)  # a new layer's are zero
    x = torch.randn(2, 4, *size, dtype=torch.float64)
    want = np.stack([written_out(layer, image) for image in x.numpy()])
    # The sinusoid is computed in float32.
    tolerance = 1e-6 if layer.position == "absolute" else 1e-12
    torch.testing.assert_close(layer(x).detach(), torch.from_numpy(want), rtol=0, atol=tolerance)


def written_out(layer: LocalSelfAttention2d, x: np.ndarray) -> np.ndarray:
    """The layer in loops for one image, with its own weights."""
    parameters = {name: value.detach().numpy() for name, value in layer.named_parameters()}
    weights = np.split(parameters["qkv.weight"][:, :, 0, 0], 3 if layer.content else 2)
    bias = parameters.get("qkv.bias")
    biases = [None] * len(weights) if bias is None else np.split(bias, len(weights))
    if layer.position == "absolute":
        x = x + loops.sinusoid(*x.shape)
    maps = [loops.project(weight, x, b) for weight, b in zip(weights, biases, strict=True)]
    out = loops.local_attention(
        maps[0],
        maps[1] if layer.content else None,
        maps[-1],
        parameters.get("rel_row"),
        parameters.get("rel_col"),
        heads=layer.num_heads,
        kernel=layer.kernel_size,
        dilation=layer.dilation,
        scale=layer.scale,
    )
    return loops.average_2x2(out) if layer.stride == 2 else out


def test_content_gain_is_a_factor_of_the_keys() -> None:
    """At zero it leaves position alone; at one it changes nothing."""
    torch.manual_seed(0)
    options = {"kernel_size": 3, "num_heads": 2, "bias": True, "dtype": torch.float64}
    layer = LocalSelfAttention2d(4, 12, **options, content_gain=True)
    plain = LocalSelfAttention2d(4, 12, **options)
    position_alone = LocalSelfAttention2d(4, 12, **options, content=False)
    torch.nn.init.normal_(layer.qkv.bias)
    weights = {name: x.clone() for name, x in layer.state_dict().items() if name != "content_gain"}
    plain.load_state_dict(weights)
    for name in ("qkv.weight", "qkv.bias"):
        q, _, v = weights[name].chunk(3)
        weights[name] = torch.cat((q, v))
    position_alone.load_state_dict(weights)
    x = torch.randn(2, 4, 5, 7, dtype=torch.float64)
    torch.testing.assert_close(layer(x), position_alone(x), rtol=0, atol=1e-12)
    assert layer.content_gain is not None
    torch.nn.init.ones_(layer.content_gain)
    torch.testing.assert_close(layer(x), plain(x), rtol=0, atol=1e-12)
    torch.nn.init.normal_(layer.content_gain)
    keys = plain.qkv.weight[12:24]
    keys.data.mul_(layer.content_gain[:, None, None, None].data)
    torch.testing.assert_close(layer(x), plain(x), rtol=0, atol=1e-12)
    layer.qkv.register_forward_hook(lambda module, inputs, output: None)  # the way by the projected maps
    torch.testing.assert_close(layer(x), plain(x), rtol=0, atol=1e-12)
    torch.testing.assert_close(layer.attention_maps(x), plain.attention_maps(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [3, (5, 1)])
def test_depthwise_convolution_beside_the_attention(size: int | tuple[int, int], stride: int) -> None:
    torch.manual_seed(0)
    options = {"kernel_size": 3, "stride": stride, "num_heads": 2, "dilation": (1, 2), "dtype": torch.float64}
    layer = LocalSelfAttention2d(8, 8, **options, dw_kernel_size=size)
    alone = LocalSelfAttention2d(8, 8, **options)
    alone.load_state_dict({name: x for name, x in layer.state_dict().items() if name != "dw.weight"})
    x = torch.randn(2, 8, 5, 7, dtype=torch.float64)
    assert torch.equal(layer(x), alone(x)), "it starts at zero"
    assert layer.dw is not None
    torch.nn.init.normal_(layer.dw.weight)
    weight = layer.dw.weight.detach().numpy()[:, 0]
    want = np.stack([loops.depthwise(weight, image, stride, (1, 2)) for image in x.numpy()])
    torch.testing.assert_close((layer(x) - alone(x)).detach(), torch.from_numpy(want), rtol=0, atol=1e-12)


def test_depthwise_convolution_to_more_channels() -> None:
    """Channel c of the output is convolved from channel c // 2 of the input."""
    torch.manual_seed(0)
    layer = LocalSelfAttention2d(4, 8, 3, num_heads=2, dw_kernel_size=3, dtype=torch.float64)
    x = torch.randn(1, 4, 5, 5, dtype=torch.float64)
    attention = layer(x)
    assert layer.dw is not None
    torch.nn.init.normal_(layer.dw.weight)
    want = loops.depthwise(layer.dw.weight.detach().numpy()[:, 0], x[0].repeat_interleave(2, 0).numpy())
    torch.testing.assert_close((layer(x) - attention)[0].detach(), torch.from_numpy(want), rtol=0, atol=1e-12)


def test_defaults_are_the_papers() -> None:
    layer = LocalSelfAttention2d(16, 16)
    assert layer.kernel_size == (7, 7)
    assert (layer.num_heads, layer.stride, layer.dilation) == (8, 1, (1, 1))
    assert (layer.position, layer.content, layer.scale) == ("relative", True, 1.0)
    assert layer.qkv.bias is None
    assert layer.content_gain is None
    assert layer.dw is None


def test_an_integer_size_is_a_square_window() -> None:
    torch.manual_seed(0)
    layer = LocalSelfAttention2d(4, 8, 5, num_heads=2, dilation=2)
    pair = LocalSelfAttention2d(4, 8, (5, 5), num_heads=2, dilation=(2, 2))
    pair.load_state_dict(layer.state_dict())
    x = torch.randn(1, 4, 9, 8)
    assert torch.equal(layer(x), pair(x))
