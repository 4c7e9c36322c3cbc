"""How much of a map one program computes: the table of configurations.

A program computes `rows × cols` pixels, or cells of them, for `heads` heads; each with a head is a row of its
register tiles.
"""

from __future__ import annotations

from typing import NamedTuple

from sasa.ops.local_attn.spec import LocalAttentionSpec

# Bytes of a row that one thread reads at a time: the widest load that there is.
_LOAD = 16
# Pixels of a tile by how many there are: as square as can be, as the halo is then least.
_SHAPES = {1: (1, 1), 2: (1, 2), 4: (2, 2), 8: (2, 4), 16: (4, 4), 32: (4, 8), 64: (8, 8), 128: (8, 16)}
# Neighbors among the queries in a row of a tile of `forward_kernel`, a multiple of the pooling: four spill.
QUERIES = 2

# `taps` at most.
_TAPS = 32


class Tile(NamedTuple):
    """A program's share of the work; all are powers of two."""

    rows: int
    cols: int
    heads: int
    warps: int


class DotTile(NamedTuple):
    """A program's share of the work with products on tensor cores; all are powers of two."""

    rows: int  # of queries
    cols: int
    key_rows: int  # of keys at once
    key_cols: int
    warps: int
    stages: int  # 1: other warps hide a load, and the loop has a tenth fewer instructions than with 3


def power_of_two(n: int) -> int:
    """The smallest that is at least n."""
    return 1 << (n - 1).bit_length()


def choose(
    *,
    height: int,
    width: int,
    heads: int,
    head_dim: int,
    itemsize: int,
    channels_last: bool,
    warps: int,
    wide: bool = False,
) -> Tile:
    """The tile for one kernel.

    Neighboring threads read neighboring addresses: the heads of a pixel lie together in channels-last maps,
    the pixels of a row in contiguous ones. One thread owns a row of at most 16 bytes; wider rows are shared
    by more threads.

    Args:
        height: Of the map that the programs tile.
        width: Of the same.
        heads: N.
        head_dim: The larger of the widths of a head of queries and of values, a power of two.
        itemsize: Bytes of an element.
        channels_last: The maps' memory format.
        warps: Of a program.
        wide: What the tile counts is twice as wide as high: two pixels beside each other.
    """
    threads_a_row = max(1, head_dim * itemsize // _LOAD)
    rows = max(1, 32 * warps // threads_a_row)
    wanted = min(power_of_two(heads), 8, rows) if channels_last else 1
    tile_rows, tile_cols = sorted(_SHAPES[min(128, rows // wanted)], reverse=wide)
    # No larger than the map; heads then take the rows that are left.
    tile_rows, tile_cols = min(tile_rows, power_of_two(height)), min(tile_cols, power_of_two(width))
    group = min(power_of_two(heads), rows // (tile_rows * tile_cols))
    return Tile(tile_rows, tile_cols, group, warps)


def can_dot(spec: LocalAttentionSpec, *, itemsize: int, head_dim: int, tf32: bool = False) -> bool:
    """Whether the kernel with products on tensor cores can run.

    Of float32 maps it can if their products may be tf32. It masks products before it scales them, with −∞, so
    that the scale has to be positive.
    """
    plain = spec.dilation == (1, 1) and taps(spec.kernel_size) <= _TAPS and spec.scale > 0
    return plain and (itemsize == 2 or tf32) and head_dim <= 128


def dot_pays(
    spec: LocalAttentionSpec, *, query_dim: int, head_dim: int, forward: bool, itemsize: int = 2
) -> bool:
    """Whether it is predicted to be faster, where it can run.

    `studies.gpu_model.model` predicts it for heads of 16 to 64, and in half precision for the backward
    pass of heads of 8, which fill half of a product. Wider ones do not fit registers, narrower ones waste
    more, and of small windows most of it is masked.
    """
    narrowest = 16 if forward or itemsize > 2 else 8
    return query_dim >= narrowest and head_dim <= 64 and min(spec.kernel_size) >= 5


def taps(kernel_size: tuple[int, int]) -> int:
    """Rows and columns of a window together in a product on tensor cores."""
    return max(16, power_of_two(sum(kernel_size)))


def choose_dot(*, width: int, kernel_cols: int, head_dim: int, itemsize: int = 2) -> DotTile:
    """The tile for the kernel with products on tensor cores.

    A warp has the 16 queries that a product has at least: larger squares have more masked logits. Keys at
    once are as many as fit registers.

    Args:
        width: Of the map of queries and keys.
        kernel_cols: Columns of the window.
        head_dim: The larger of the widths of a head of queries and of values, a power of two.
        itemsize: Bytes of an element.
    """
    rows, cols = 2, 8
    row_bytes = max(16, head_dim) * itemsize
    key_cols = max(16, power_of_two(min(width, cols + kernel_cols - 1)))
    key_rows = max(1, (64 if row_bytes <= 32 else 32) // key_cols)
    warps = 1 if row_bytes <= 128 else 2
    return DotTile(rows, cols, key_rows, key_cols, warps, stages=1 if head_dim <= 32 else 3)


def columns_at_once(columns: int) -> int:
    """How many of a window's columns are unrolled: all of at most eight, else a share of equal parts."""
    parts = -(-columns // 8)
    return -(-columns // parts)
