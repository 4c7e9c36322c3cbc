"""The forward kernel.

Each row of a tile is an output pixel of one head. For each of its queries (one, or the block that is pooled)
the window is read row by row: COLS columns at once, with an online softmax in base 2 from row to row.
"""

import triton
import triton.language as tl

from sasa.ops.local_attention.backends.triton.window import (
    load_col_embedding,
    load_row_embedding,
    load_rows,
    rows_of_tile,
    share_of_block,
    store_rows,
)


@triton.jit
def forward_kernel(
    q,
    k,
    v,
    rel,
    out,
    lse,
    q_image,
    q_channel,
    q_row,
    q_col,
    k_image,
    k_channel,
    k_row,
    k_col: tl.constexpr,
    v_image,
    v_channel,
    v_row,
    v_col: tl.constexpr,
    out_image,
    out_channel,
    out_row,
    out_col,
    height,
    width,
    heads,
    tiles_y,
    tiles_x,
    factor,
    D: tl.constexpr,
    DV: tl.constexpr,
    KERNEL_ROWS: tl.constexpr,
    KERNEL_COLS: tl.constexpr,
    DILATION_ROWS: tl.constexpr,
    DILATION_COLS: tl.constexpr,
    EXTENT: tl.constexpr,
    POOL: tl.constexpr,
    RELU: tl.constexpr,
    HAS_K: tl.constexpr,
    HAS_REL: tl.constexpr,
    SAVE_LSE: tl.constexpr,
    TILE_ROWS: tl.constexpr,
    TILE_COLS: tl.constexpr,
    TILE_HEADS: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_DV: tl.constexpr,
    COLS: tl.constexpr,
):
    """Out, and for each query the logarithm of its softmax's denominator in base 2.

    factor is scale · log2(e); rel is the packed table (N, EXTENT, D).
    """
    R: tl.constexpr = TILE_ROWS * TILE_COLS * TILE_HEADS
    image, head, out_y, out_x = rows_of_tile(
        tl.program_id(0), tl.program_id(1), tiles_y, tiles_x, TILE_ROWS, TILE_COLS, TILE_HEADS
    )
    q += image * q_image
    k += image * k_image
    v += image * v_image
    mean = tl.zeros([R, BLOCK_DV], tl.float32)
    for query_of_block in range(POOL * POOL):
        y = out_y * POOL + query_of_block // POOL
        x = out_x * POOL + query_of_block % POOL
        inside = (head < heads) & (y < height) & (x < width)
        at = q + head * (D * q_channel) + y * q_row + x * q_col
        query = load_rows(at, inside, q_channel, 0, D, BLOCK_D)
        peak = tl.full([R], float("-inf"), tl.float32)
        total = tl.zeros([R], tl.float32)
        value = tl.zeros([R, BLOCK_DV], tl.float32)
        for first in range(0, KERNEL_COLS, COLS):
            by_col = ()
            if HAS_REL:
                for j in tl.static_range(COLS):
                    given = inside & (first + j < KERNEL_COLS)
                    r = load_col_embedding(rel, head, KERNEL_ROWS + first + j, given, EXTENT, D, BLOCK_D)
                    by_col = by_col + (tl.sum(query * r, 1),)
            for tap in range(KERNEL_ROWS):
                key_y = y + (tap - KERNEL_ROWS // 2) * DILATION_ROWS
                row_inside = inside & (key_y >= 0) & (key_y < height)
                if HAS_REL:
                    r = load_row_embedding(rel, head, tap, inside, EXTENT, D, BLOCK_D)
                    by_row = tl.sum(query * r, 1)
                # Columns are compile-time steps from the window's first: offsets inside load instructions.
                left = x + (first - KERNEL_COLS // 2) * DILATION_COLS
                at_k = k + head * (D * k_channel) + key_y * k_row + left * k_col
                at_v = v + head * (DV * v_channel) + key_y * v_row + left * v_col
                top = peak
                logits = ()
                for j in tl.static_range(COLS):
                    key_x = x + (first + j - KERNEL_COLS // 2) * DILATION_COLS
                    seen = row_inside & (first + j < KERNEL_COLS) & (key_x >= 0) & (key_x < width)
                    logit = tl.zeros([R], tl.float32)
                    if HAS_K:
                        at = at_k + j * (DILATION_COLS * k_col)
                        logit += tl.sum(query * load_rows(at, seen, k_channel, 0, D, BLOCK_D), 1)
                    if HAS_REL:
                        logit += by_col[j] + by_row
                    logit = tl.where(seen, logit * factor, float("-inf"))
                    logits = logits + (logit,)
                    top = tl.maximum(top, logit)
                # Until something is seen the peak is −∞, and −∞ − −∞ is not a number.
                base = tl.where(top == float("-inf"), 0.0, top)
                shrink = tl.exp2(peak - base)
                peak = top
                total *= shrink
                value *= shrink[:, None]
                for j in tl.static_range(COLS):
                    key_x = x + (first + j - KERNEL_COLS // 2) * DILATION_COLS
                    seen = row_inside & (first + j < KERNEL_COLS) & (key_x >= 0) & (key_x < width)
                    weight = tl.exp2(logits[j] - base)
                    total += weight
                    at = at_v + j * (DILATION_COLS * v_col)
                    value += weight[:, None] * load_rows(at, seen, v_channel, 0, DV, BLOCK_DV)
        share = share_of_block(y, x, height, width, POOL)
        mean += tl.where(inside[:, None], value * (share / total)[:, None], 0.0)
        if SAVE_LSE:
            to = lse + image * heads * height * width + (head * height + y) * width + x
            tl.store(to, peak + tl.log2(total), inside)
    if RELU:
        # Not a number stays one.
        mean = tl.where(mean < 0, 0.0, mean)
    written = (head < heads) & (out_y * POOL < height) & (out_x * POOL < width)
    to = out + image * out_image + head * (DV * out_channel) + out_y * out_row + out_x * out_col
    store_rows(to, written, out_channel, mean, 0, DV, BLOCK_DV)
