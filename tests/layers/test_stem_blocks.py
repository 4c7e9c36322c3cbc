"""The blocks of `AttentionStem` know nothing of one another, nor of the padding."""

from __future__ import annotations

import itertools

import pytest
import torch

from sasa import AttentionStem

from .test_attention_stem import VALUES, build


@pytest.mark.parametrize("values", ["spatially_aware", "pointwise"])
@pytest.mark.parametrize("block_size", [2, 4])
def test_a_square_depends_on_its_own_pixels_alone(values: str, block_size: int) -> None:
    stem = build(values=values, block_size=block_size)
    x = torch.randn(1, 3, 3 * block_size - 1, 3 * block_size, dtype=torch.float64)
    before = stem(x)
    for i, j in itertools.product(range(3), range(3)):
        changed = x.clone()
        changed[:, :, i * block_size : (i + 1) * block_size, j * block_size : (j + 1) * block_size] += 1
        differs = (stem(changed) != before).any(1)[0]
        alone = torch.zeros(3, 3, dtype=torch.bool)
        alone[i, j] = True
        assert torch.equal(differs, alone)


@pytest.mark.parametrize("values", VALUES)
def test_full_squares_of_an_image_with_partial_ones(values: str) -> None:
    stem = build(values=values)
    x = torch.randn(1, 3, 10, 11, dtype=torch.float64)
    # Values of a 4 × 4 convolution reach two pixels to the right and below.
    full = stem(x)[:, :, :2, :2] if values != "convolution" else stem(x)[:, :, :1, :1]
    cropped = stem(x[:, :, :8, :8])[:, :, : full.shape[2], : full.shape[3]]
    torch.testing.assert_close(full, cropped, rtol=0, atol=1e-12)


@pytest.mark.parametrize("values", VALUES)
def test_what_the_padding_would_hold_does_not_matter(values: str) -> None:
    """A norm that maps zero to a huge value would show any padding in the maximum."""
    stem = build(values=values)
    with torch.no_grad():
        stem.norm.weight.fill_(1.0)
        stem.norm.bias.zero_()
        stem.norm.running_var.fill_(1.0)  # type: ignore[union-attr]
        stem.norm.running_mean.fill_(-100.0)  # type: ignore[union-attr]
        stem.value.weight.copy_(-stem.value.weight.abs())
    out = stem(torch.rand(1, 3, 5, 6, dtype=torch.float64) + 1)
    assert (out < 100).all()  # every value is negative; a zero of the padding would give exactly 100


@pytest.mark.parametrize("values", VALUES)
@pytest.mark.parametrize("size", [(8, 8), (6, 7)], ids=str)
def test_attention_maps(values: str, size: tuple[int, int]) -> None:
    stem = build(values=values)
    maps = stem.attention_maps(torch.randn(2, 3, *size, dtype=torch.float64))
    assert maps.shape == (2, 2, *size, 4, 4)
    assert (maps >= 0).all()
    torch.testing.assert_close(maps.sum((-1, -2)).double(), torch.ones(2, 2, *size, dtype=torch.float64))
    for i, j, a, b in itertools.product(*map(range, (*size, 4, 4))):
        inside = i // 4 * 4 + a < size[0] and j // 4 * 4 + b < size[1]
        assert (maps[:, :, i, j, a, b] > 0).all() == inside


def test_maps_applied_to_the_values_are_what_the_norm_gets() -> None:
    stem = build(values="pointwise")
    x = torch.randn(2, 3, 8, 12, dtype=torch.float64)
    caught: list[torch.Tensor] = []
    stem.norm.register_forward_pre_hook(lambda _, args: caught.append(args[0]))
    stem(x)
    maps, values = stem.attention_maps(x), stem.value(x).unflatten(1, (2, 4))
    out = torch.zeros_like(values)
    for i, j in itertools.product(range(8), range(12)):
        top, left = i // 4 * 4, j // 4 * 4
        block = values[..., top : top + 4, left : left + 4]
        out[..., i, j] = (maps[:, :, None, i, j].to(values.dtype) * block).sum((-1, -2))
    torch.testing.assert_close(out.flatten(1, 2), caught[0], rtol=0, atol=1e-12)


def test_convolution_values_see_the_neighboring_squares() -> None:
    stem = build(values="convolution")
    x = torch.randn(1, 3, 8, 8, dtype=torch.float64)
    changed = x.clone()
    changed[:, :, :4, :4] += 1
    assert (stem(changed) != stem(x)).any(1).all()


def test_default_is_the_papers() -> None:
    stem = AttentionStem()
    assert (stem.values, stem.num_heads, stem.num_mixtures, stem.block_size) == ("spatially_aware", 4, 4, 4)
    assert stem(torch.randn(1, 3, 32, 20)).shape == (1, 64, 8, 5)
    assert AttentionStem(max_pool=False)(torch.randn(1, 3, 7, 9)).shape == (1, 64, 7, 9)
