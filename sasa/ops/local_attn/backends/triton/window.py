"""What the kernels share: which (pixel, head) a row of a tile is, and addresses of its elements.

A tile has R rows, one per (pixel, head), or in the forward kernel per (cell of pixels, head); the head
changes fastest. All tiles are (R, channels). The window's columns are unrolled, COLS at a time: sums over the
window have to stay inside a thread, and Triton's versions distribute a third axis over threads differently.
"""

# Triton reads annotations at run time, so they are not postponed here.
import triton
import triton.language as tl


@triton.jit
def rows_of_tile(
    tile,
    group,
    tiles_y,
    tiles_x,
    TILE_ROWS: tl.constexpr,
    TILE_COLS: tl.constexpr,
    TILE_HEADS: tl.constexpr,
):
    """The image of a tile, and head, y and x of its rows, (R,) each."""
    row = tl.arange(0, TILE_ROWS * TILE_COLS * TILE_HEADS)
    pixel = row // TILE_HEADS
    head = group * TILE_HEADS + row % TILE_HEADS
    image = tile // (tiles_y * tiles_x)
    within = tile % (tiles_y * tiles_x)
    y = within // tiles_x * TILE_ROWS + pixel // TILE_COLS
    x = within % tiles_x * TILE_COLS + pixel % TILE_COLS
    return image.to(tl.int64), head, y, x


@triton.jit
def load_as_stored(at, inside, step, first: tl.constexpr, last: tl.constexpr, BLOCK: tl.constexpr):
    """Elements first … last − 1 of R rows that start at the pointers `at`, (R, BLOCK).

    The other elements, and rows that are not inside, are 0.
    """
    d = tl.arange(0, BLOCK)
    mask = inside[:, None] & ((d >= first) & (d < last))[None, :]
    return tl.load(at[:, None] + (d * step)[None, :], mask, 0.0)


@triton.jit
def load_rows(at, inside, step, first: tl.constexpr, last: tl.constexpr, BLOCK: tl.constexpr):
    """Load the same elements in float32."""
    stored = load_as_stored(at, inside, step, first, last, BLOCK)
    if stored.dtype == tl.bfloat16:
        return (stored.to(tl.uint16, bitcast=True).to(tl.uint32) << 16).to(tl.float32, bitcast=True)
    return stored.to(tl.float32)


@triton.jit
def store_rows(at, inside, step, x, first: tl.constexpr, last: tl.constexpr, BLOCK: tl.constexpr):
    """Store the elements of x (R, BLOCK) that `load_rows` would load."""
    d = tl.arange(0, BLOCK)
    mask = inside[:, None] & ((d >= first) & (d < last))[None, :]
    tl.store(at[:, None] + (d * step)[None, :], x.to(at.dtype.element_ty), mask)


@triton.jit
def load_row_embedding(rel, head, tap, inside, EXTENT: tl.constexpr, D: tl.constexpr, BLOCK: tl.constexpr):
    """The embedding of a row of the window: half of a row of the table (N, EXTENT, D), then zeros."""
    return load_rows(rel + (head * EXTENT + tap) * D, inside, 1, 0, D // 2, BLOCK)


@triton.jit
def load_col_embedding(rel, head, tap, inside, EXTENT: tl.constexpr, D: tl.constexpr, BLOCK: tl.constexpr):
    """The embedding of a column; columns follow rows in the table: zeros, then the second half."""
    return load_rows(rel + (head * EXTENT + tap) * D, inside, 1, D // 2, D, BLOCK)


@triton.jit
def share_of_block(y, x, height, width, POOL: tl.constexpr):
    """The weight of pixels (y, x) in the mean of their POOL × POOL block, which the map may cut."""
    if POOL == 1:
        return tl.full(x.shape, 1.0, tl.float32)
    else:
        rows = tl.where(y // POOL * POOL + 1 < height, 2, 1)
        cols = tl.where(x // POOL * POOL + 1 < width, 2, 1)
        return 1.0 / (rows * cols).to(tl.float32)
