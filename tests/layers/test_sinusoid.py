"""The absolute position of Table 5."""

from __future__ import annotations

import pytest
import torch

from sasa import LocalSelfAttention2d
from sasa.layers.sinusoid import sinusoid_2d

from . import loops

CPU = torch.device("cpu")


def encoding(channels: int, height: int, width: int) -> torch.Tensor:
    return sinusoid_2d(channels, height, width, device=CPU, dtype=torch.float32)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 6, 7, 8, 13, 32])
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (9, 2)], ids=str)
def test_formula_for_any_size(channels: int, size: tuple[int, int]) -> None:
    want = torch.from_numpy(loops.sinusoid(channels, *size))
    assert want.shape == (channels, *size)
    torch.testing.assert_close(encoding(channels, *size).double(), want, rtol=0, atol=2e-6)


@pytest.mark.parametrize("channels", [2, 5, 64])
def test_bounded(channels: int) -> None:
    assert encoding(channels, 100, 60).abs().max() <= 1


@pytest.mark.parametrize("channels", [4, 7, 64])
def test_tells_every_pixel_from_every_other(channels: int) -> None:
    pixels = encoding(channels, 40, 56).flatten(1).T
    distance = torch.cdist(pixels, pixels, compute_mode="donot_use_mm_for_euclid_dist")
    distance.fill_diagonal_(torch.inf)
    assert distance.min() > 1e-3


def test_a_larger_map_begins_with_the_smaller() -> None:
    torch.testing.assert_close(encoding(8, 9, 11)[:, :4, :5], encoding(8, 4, 5), rtol=0, atol=1e-6)


def test_dtype_and_device() -> None:
    out = sinusoid_2d(4, 3, 2, device=torch.device("meta"), dtype=torch.bfloat16)
    assert (out.device.type, out.dtype, out.shape) == ("meta", torch.bfloat16, (4, 3, 2))


def test_layer_adds_it_to_its_input() -> None:
    torch.manual_seed(0)
    absolute = LocalSelfAttention2d(6, 8, 3, num_heads=2, position="absolute")
    none = LocalSelfAttention2d(6, 8, 3, num_heads=2, position="none")
    none.load_state_dict(absolute.state_dict())
    x = torch.randn(2, 6, 5, 4)
    torch.testing.assert_close(absolute(x), none(x + encoding(6, 5, 4)))
    assert not torch.allclose(absolute(x), none(x), atol=0.1)
