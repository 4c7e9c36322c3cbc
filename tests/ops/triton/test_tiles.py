"""The table of tiles: powers of two that cover what they must and are no larger than they can be."""

from __future__ import annotations

from itertools import product

import pytest

from sasa.ops.local_attention.backends.triton.tiles import choose, columns_at_once, power_of_two


@pytest.mark.parametrize("channels_last", [True, False])
def test_every_tile_can_run(channels_last: bool) -> None:
    sides, widths = (1, 2, 7, 14, 56, 300), (1, 2, 4, 8, 16, 32, 64, 128)
    for height, width, heads, head, itemsize in product(sides, sides, (1, 3, 8, 40), widths, (2, 4)):
        tile = choose(
            height=height,
            width=width,
            heads=heads,
            head_width=head,
            itemsize=itemsize,
            channels_last=channels_last,
            warps=4,
        )
        assert all(n == power_of_two(n) and n >= 1 for n in tile)
        assert tile.rows < 2 * height or tile.rows == 1
        assert tile.cols < 2 * width or tile.cols == 1
        assert tile.heads < 2 * heads or tile.heads == 1
        elements_a_thread = tile.rows * tile.cols * tile.heads * head / (32 * tile.warps)
        assert elements_a_thread * itemsize <= 16


def test_power_of_two() -> None:
    assert [power_of_two(n) for n in (1, 2, 3, 4, 5, 8, 9)] == [1, 2, 4, 4, 8, 8, 16]


def test_columns_at_once() -> None:
    assert [columns_at_once(n) for n in (1, 3, 7, 9, 11, 15, 17, 31)] == [1, 3, 7, 5, 6, 8, 6, 8]
