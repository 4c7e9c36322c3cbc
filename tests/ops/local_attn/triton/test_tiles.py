"""The table of tiles: powers of two that cover what they must and are no larger than they can be."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from sasa.ops.local_attn.backends.triton import tiles
from sasa.ops.local_attn.backends.triton.tiles import choose, columns_at_once, power_of_two
from sasa.ops.local_attn.spec import LocalAttentionSpec


@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize("channels_last", [True, False])
def test_every_tile_can_run(channels_last: bool, wide: bool) -> None:
    sides, widths = (1, 2, 7, 14, 56, 300), (1, 2, 4, 8, 16, 32, 64, 128)
    for height, width, heads, head, itemsize in product(sides, sides, (1, 3, 8, 40), widths, (2, 4)):
        tile = choose(
            height=height,
            width=width,
            heads=heads,
            head_dim=head,
            itemsize=itemsize,
            channels_last=channels_last,
            warps=4,
            wide=wide,
        )
        assert all(n == power_of_two(n) and n >= 1 for n in tile)
        assert tile.rows < 2 * height or tile.rows == 1
        assert tile.cols < 2 * width or tile.cols == 1
        assert tile.heads < 2 * heads or tile.heads == 1
        elements_a_thread = tile.rows * tile.cols * tile.heads * head / (32 * tile.warps)
        assert elements_a_thread * itemsize <= 16
        if tile.rows < height and tile.cols < width:
            assert 1 <= (tile.rows / tile.cols if wide else tile.cols / tile.rows) <= 2


def test_power_of_two() -> None:
    assert [power_of_two(n) for n in (1, 2, 3, 4, 5, 8, 9)] == [1, 2, 4, 4, 8, 8, 16]


def test_columns_at_once() -> None:
    assert [columns_at_once(n) for n in (1, 3, 7, 9, 11, 15, 17, 31)] == [1, 3, 7, 5, 6, 8, 6, 8]


def spec(**changes: Any) -> LocalAttentionSpec:
    options = {"num_heads": 8, "kernel_size": (7, 7), "dilation": (1, 1), "scale": 1.0, "pool": 1} | changes
    return LocalAttentionSpec(**options)


def test_tensor_cores_where_they_can_and_pay() -> None:
    """ResNet-50's heads in half precision; not narrower ones, nor what the kernel does not do."""
    assert all(tiles.can_dot(spec(), itemsize=2, head_dim=width) for width in (8, 16, 64, 128))
    for forward, narrowest in ((True, 16), (False, 8)):
        for width in (4, 8, 16, 32, 64, 128):
            pays = tiles.dot_pays(spec(), query_dim=width, head_dim=width, forward=forward)
            assert pays == (narrowest <= width <= 64)
        assert not tiles.dot_pays(spec(), query_dim=4, head_dim=8, forward=forward)
        assert not tiles.dot_pays(spec(), query_dim=16, head_dim=128, forward=forward)
        small = spec(kernel_size=(3, 7))
        assert not tiles.dot_pays(small, query_dim=16, head_dim=16, forward=forward)
    assert not tiles.can_dot(spec(), itemsize=4, head_dim=16)
    for changes in ({"dilation": (1, 2)}, {"kernel_size": (17, 17)}, {"scale": 0.0}, {"scale": -1.0}):
        assert not tiles.can_dot(spec(**changes), itemsize=2, head_dim=16)


@pytest.mark.parametrize("width", [1, 7, 14, 28, 56])
@pytest.mark.parametrize("columns", [1, 7, 15])
def test_the_halo_of_a_tile_fits_its_keys(width: int, columns: int) -> None:
    tile = tiles.choose_dot(width=width, kernel_cols=columns, head_dim=16)
    assert tile.rows * tile.cols == 16, "as many queries as a product has at least"
    assert tile.key_cols >= min(width, tile.cols + columns - 1)
    assert tile.key_rows >= 1
