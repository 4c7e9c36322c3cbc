"""What the attention layer refuses, and in which words."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from sasa import AttentionStem, LocalSelfAttention2d


@pytest.mark.parametrize(
    ("channels", "options", "message"),
    [
        (60, {}, r"out_channels=60 and num_heads=8: expected a multiple of 16 channels"),
        (24, {}, r"out_channels=24 and num_heads=8: expected a multiple of 16 .* even width"),
        (60, {"position": "none"}, r"out_channels=60 and num_heads=8: expected a multiple of 8 channels"),
        (0, {}, r"out_channels=0 and num_heads=8"),
        (16, {"num_heads": 0}, r"num_heads: expected at least 1, got 0"),
        (16, {"stride": 3}, r"stride: expected 1 or 2, got 3"),
        (16, {"stride": 0}, r"stride: expected 1 or 2, got 0"),
        (16, {"position": "learned"}, r"position: expected one of .*'relative'.*, got 'learned'"),
        (16, {"content": False, "position": "none"}, r"content: .* position='relative', got 'none'"),
        (16, {"content": False, "position": "absolute"}, r"content: .* got 'absolute'"),
        (
            16,
            {"content": False, "content_gain": True},
            r"content_gain: .* content=False, got True",
        ),
        (16, {"dw_kernel_size": 4}, r"dw_kernel_size: expected odd sizes or 0, got 4"),
        (16, {"dw_kernel_size": (3, 3, 3)}, r"dw_kernel_size: expected an int or a pair, got \(3, 3, 3\)"),
        (16, {"dw_kernel_size": -1}, r"dw_kernel_size: expected at least 1, got -1"),
        (
            20,
            {"dw_kernel_size": 3, "num_heads": 2},
            r"out_channels: .* multiple of in_channels=8 .*, got 20",
        ),
        (16, {"kernel_size": 4}, r"kernel_size: expected odd sizes, got 4"),
        (16, {"kernel_size": (3, 5, 7)}, r"kernel_size: expected an int or a pair, got \(3, 5, 7\)"),
        (16, {"dilation": 0}, r"dilation: expected at least 1, got 0"),
        (16, {"scale": float("nan")}, r"scale: expected a finite float, got nan"),
        (16, {"backend": "cudnn"}, r"backend: expected 'auto' or one of .*, got 'cudnn'"),
    ],
)
def test_wrong_options(channels: int, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LocalSelfAttention2d(8, channels, **options)


@pytest.mark.parametrize(
    ("layer", "options", "message"),
    [
        (LocalSelfAttention2d, {"stride": 2.0}, "stride: expected an int, got float 2.0"),
        (LocalSelfAttention2d, {"stride": True}, "stride: expected an int, got bool True"),
        (LocalSelfAttention2d, {"num_heads": 4.0}, "num_heads: expected an int, got float 4.0"),
        (LocalSelfAttention2d, {"dw_kernel_size": True}, "dw_kernel_size: expected an int, got bool True"),
        (LocalSelfAttention2d, {"content_gain": "batch"}, "content_gain: expected a bool, got str 'batch'"),
        (LocalSelfAttention2d, {"content": 1}, "content: expected a bool, got int 1"),
        (LocalSelfAttention2d, {"bias": None}, "bias: expected a bool, got NoneType None"),
        (AttentionStem, {"num_heads": 4.0}, "num_heads: expected an int, got float 4.0"),
        (AttentionStem, {"block_size": "4"}, "block_size: expected an int, got str '4'"),
        (AttentionStem, {"num_mixtures": 2.5}, "num_mixtures: expected an int, got float 2.5"),
    ],
)
def test_options_of_a_wrong_type(layer: type[nn.Module], options: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        layer(8, 16, **options)


def test_heads_of_odd_width_are_fine_without_relative_position() -> None:
    layer = LocalSelfAttention2d(8, 24, position="none")
    assert layer(torch.randn(1, 8, 4, 4)).shape == (1, 24, 4, 4)


@pytest.mark.parametrize(
    "shape", [(2, 7, 5, 5), (8, 5, 5), (2, 9, 5, 5), (1, 2, 8, 5, 5), (2, 8, 0, 5)], ids=str
)
def test_wrong_input_is_named_with_what_came(shape: tuple[int, ...]) -> None:
    layer = LocalSelfAttention2d(8, 16)
    with pytest.raises(ValueError, match=r"x: expected \(B, 8, H, W\) with H, W ≥ 1, got ") as error:
        layer(torch.randn(shape))
    assert str(shape) in str(error.value)
