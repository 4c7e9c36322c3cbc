"""`LocalSelfAttention2d.attention_maps`: the weights of `forward`, for pictures."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

from sasa import LocalSelfAttention2d

SIZE = (5, 6)


def build(**options: Any) -> tuple[LocalSelfAttention2d, torch.Tensor]:
    torch.manual_seed(0)
    options = {"kernel_size": (3, 5), "num_heads": 2, **options}
    layer = LocalSelfAttention2d(4, 8, **options, dtype=torch.float64)
    return layer, torch.randn(2, 4, *SIZE, dtype=torch.float64)


@pytest.mark.parametrize(
    "options",
    [{}, {"dilation": (2, 1)}, {"content": False}, {"position": "none"}, {"scale": 0.2}],
    ids=str,
)
def test_applied_to_the_values_they_give_the_output(options: dict[str, Any]) -> None:
    layer, x = build(**options)
    maps = layer.attention_maps(x)
    assert maps.shape == (2, 2, *SIZE, 3, 5)
    values = torch.einsum("oc,bchw->bohw", layer.qkv.weight[-8:, :, 0, 0], x).unflatten(1, (2, 4))
    out = torch.zeros_like(values)
    for i, j, a, b in itertools.product(*map(range, (*SIZE, 3, 5))):
        y, z = i + (a - 1) * layer.dilation[0], j + (b - 2) * layer.dilation[1]
        weight = maps[..., i, j, a, b]
        if 0 <= y < SIZE[0] and 0 <= z < SIZE[1]:
            out[..., i, j] += weight[:, :, None] * values[..., y, z]
        else:
            assert not weight.any()
    torch.testing.assert_close(out.flatten(1, 2), layer(x), rtol=0, atol=1e-12)


def test_sum_to_one_and_are_weights() -> None:
    layer, x = build()
    maps = layer.attention_maps(x)
    assert (maps >= 0).all()
    torch.testing.assert_close(maps.sum((-1, -2)), torch.ones(2, 2, *SIZE, dtype=x.dtype))


def test_with_stride_2_the_mean_of_the_four_queries() -> None:
    layer, x = build(stride=2)
    fine, _ = build()
    fine.load_state_dict(layer.state_dict())
    maps, full = layer.attention_maps(x), fine.attention_maps(x)
    assert maps.shape == (2, 2, 3, 3, 3, 5)
    for i, j in itertools.product(range(3), range(3)):
        mean = full[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean((2, 3))
        torch.testing.assert_close(maps[:, :, i, j], mean)
    assert torch.equal(layer.attention_maps(x, per_query=True), full)


def test_absolute_position_is_in_them() -> None:
    layer, x = build(position="absolute")
    none, _ = build(position="none")
    none.load_state_dict(layer.state_dict())
    same = torch.ones_like(x)
    inside = none.attention_maps(same)[:, :, 2, 3]
    torch.testing.assert_close(inside, torch.full_like(inside, 1 / 15))  # nothing tells pixels apart
    assert (layer.attention_maps(same)[:, :, 2, 3] - 1 / 15).abs().max() > 0.01


def test_wrong_input() -> None:
    layer, _ = build()
    with pytest.raises(ValueError, match=r"x: expected \(B, 4, H, W\) with H, W ≥ 1, got \(2, 3, 5, 6\)"):
        layer.attention_maps(torch.randn(2, 3, 5, 6))
