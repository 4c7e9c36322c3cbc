"""The backward kernels: one gathers over each query's window, one over the queries whose windows hold a key.

No two programs add to the same memory, so the same inputs give the same bits. Weights are computed again from
the saved log-sum-exp. With p the weights of a query, g the gradient of its output and dp = g·v

    dlogit = p · (dp − delta),   delta = Σ p · dp
"""

import triton
import triton.language as tl

from sasa.ops.local_attn.backends.triton.window import (
    load_col_embedding,
    load_row_embedding,
    load_rows,
    rows_of_tile,
    share_of_block,
    store_rows,
)


@triton.jit
def add_to_partial(
    to,
    slope,
    query,
    heads_here,
    heads,
    first: tl.constexpr,
    last: tl.constexpr,
    TILE_PIXELS: tl.constexpr,
    TILE_HEADS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Add, for each head, the sum over a tile's pixels of slope · query[first:last] to the pointers' rows."""
    part = tl.sum(tl.reshape(slope[:, None] * query, [TILE_PIXELS, TILE_HEADS, BLOCK]), 0)
    before = load_rows(to, heads_here < heads, 1, first, last, BLOCK)
    # Threads load what other threads store: all wait before and after the store.
    tl.debug_barrier()
    store_rows(to, heads_here < heads, 1, before + part, first, last, BLOCK)
    tl.debug_barrier()


@triton.jit
def queries_kernel(
    grad,
    q,
    k,
    v,
    rel,
    lse,
    grad_q,
    delta,
    partial,
    grad_image,
    grad_channel,
    grad_row,
    grad_col,
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
    grad_q_image,
    grad_q_channel,
    grad_q_row,
    grad_q_col,
    height,
    width,
    heads,
    tiles,
    tiles_y,
    tiles_x,
    scale,
    factor,
    D: tl.constexpr,
    DV: tl.constexpr,
    KERNEL_ROWS: tl.constexpr,
    KERNEL_COLS: tl.constexpr,
    DILATION_ROWS: tl.constexpr,
    DILATION_COLS: tl.constexpr,
    EXTENT: tl.constexpr,
    POOL: tl.constexpr,
    HAS_K: tl.constexpr,
    HAS_REL: tl.constexpr,
    TILE_ROWS: tl.constexpr,
    TILE_COLS: tl.constexpr,
    TILE_HEADS: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_DV: tl.constexpr,
    COLS: tl.constexpr,
):
    """Write grad_q, delta (B, N, H, W), and each program's part of the embeddings' gradient.

    Two passes over the window: the first computes delta, the second uses it. A program takes every
    num_programs(0)-th tile and adds to its part of partial (num_programs(0), N, EXTENT, D), 0 before.
    """
    R: tl.constexpr = TILE_ROWS * TILE_COLS * TILE_HEADS
    heads_here = tl.program_id(1) * TILE_HEADS + tl.arange(0, TILE_HEADS)
    to_partial = partial + (tl.program_id(0) * heads + heads_here) * (EXTENT * D)
    for tile in range(tl.program_id(0), tiles, tl.num_programs(0)):
        image, head, y, x = rows_of_tile(
            tile, tl.program_id(1), tiles_y, tiles_x, TILE_ROWS, TILE_COLS, TILE_HEADS
        )
        k_of_image = k + image * k_image
        v_of_image = v + image * v_image
        inside = (head < heads) & (y < height) & (x < width)
        at_q = q + image * q_image + head * (D * q_channel) + y * q_row + x * q_col
        query = load_rows(at_q, inside, q_channel, 0, D, BLOCK_D)
        at_g = grad + image * grad_image + head * (DV * grad_channel)
        at_g += y // POOL * grad_row + x // POOL * grad_col
        g = load_rows(at_g, inside, grad_channel, 0, DV, BLOCK_DV)
        g *= share_of_block(y, x, height, width, POOL)[:, None]
        at_pixel = image * heads * height * width + (head * height + y) * width + x
        normalizer = tl.load(lse + at_pixel, inside, 0.0)
        slope = tl.zeros([R], tl.float32)
        dq = tl.zeros([R, BLOCK_D], tl.float32)
        for with_delta in tl.static_range(2):
            for first in range(0, KERNEL_COLS, COLS):
                by_col = ()
                col_slopes = ()
                for j in tl.static_range(COLS):
                    if HAS_REL:
                        given = inside & (first + j < KERNEL_COLS)
                        r = load_col_embedding(rel, head, KERNEL_ROWS + first + j, given, EXTENT, D, BLOCK_D)
                        by_col = by_col + (tl.sum(query * r, 1),)
                    col_slopes = col_slopes + (tl.zeros([R], tl.float32),)
                for tap in range(KERNEL_ROWS):
                    key_y = y + (tap - KERNEL_ROWS // 2) * DILATION_ROWS
                    row_inside = inside & (key_y >= 0) & (key_y < height)
                    row_slope = tl.zeros([R], tl.float32)
                    if HAS_REL:
                        r_row = load_row_embedding(rel, head, tap, inside, EXTENT, D, BLOCK_D)
                        by_row = tl.sum(query * r_row, 1)
                    # As in the forward kernel: columns are offsets inside load instructions.
                    left = x + (first - KERNEL_COLS // 2) * DILATION_COLS
                    at_k = k_of_image + head * (D * k_channel) + key_y * k_row + left * k_col
                    at_v = v_of_image + head * (DV * v_channel) + key_y * v_row + left * v_col
                    slopes = ()
                    for j in tl.static_range(COLS):
                        key_x = x + (first + j - KERNEL_COLS // 2) * DILATION_COLS
                        seen = row_inside & (first + j < KERNEL_COLS) & (key_x >= 0) & (key_x < width)
                        logit = tl.zeros([R], tl.float32)
                        if HAS_K:
                            at = at_k + j * (DILATION_COLS * k_col)
                            key = load_rows(at, seen, k_channel, 0, D, BLOCK_D)
                            logit += tl.sum(query * key, 1)
                        if HAS_REL:
                            logit += by_col[j] + by_row
                        weight = tl.exp2(logit * factor - normalizer)
                        at = at_v + j * (DILATION_COLS * v_col)
                        product = tl.sum(g * load_rows(at, seen, v_channel, 0, DV, BLOCK_DV), 1)
                        if with_delta == 0:
                            slope += tl.where(seen, weight * product, 0.0)
                        else:
                            dlogit = tl.where(seen, weight * (product - slope), 0.0)
                            if HAS_K:
                                dq += dlogit[:, None] * key
                            row_slope += dlogit
                            slopes = slopes + (col_slopes[j] + dlogit,)
                    if with_delta == 1:
                        col_slopes = slopes
                        if HAS_REL:
                            dq += row_slope[:, None] * r_row
                            add_to_partial(
                                to_partial + tap * D,
                                row_slope * scale,
                                query,
                                heads_here,
                                heads,
                                0,
                                D // 2,
                                TILE_ROWS * TILE_COLS,
                                TILE_HEADS,
                                BLOCK_D,
                            )
                if with_delta == 1:
                    if HAS_REL:
                        for j in tl.static_range(COLS):
                            given = inside & (first + j < KERNEL_COLS)
                            r = load_col_embedding(
                                rel, head, KERNEL_ROWS + first + j, given, EXTENT, D, BLOCK_D
                            )
                            dq += col_slopes[j][:, None] * r
                            if first + j < KERNEL_COLS:
                                add_to_partial(
                                    to_partial + (KERNEL_ROWS + first + j) * D,
                                    col_slopes[j] * scale,
                                    query,
                                    heads_here,
                                    heads,
                                    D // 2,
                                    D,
                                    TILE_ROWS * TILE_COLS,
                                    TILE_HEADS,
                                    BLOCK_D,
                                )
        tl.store(delta + at_pixel, slope, inside)
        to = grad_q + image * grad_q_image + head * (D * grad_q_channel) + y * grad_q_row + x * grad_q_col
        store_rows(to, inside, grad_q_channel, dq * scale, 0, D, BLOCK_D)


@triton.jit
def keys_kernel(
    grad,
    q,
    k,
    v,
    rel,
    lse,
    delta,
    grad_k,
    grad_v,
    grad_image,
    grad_channel,
    grad_row,
    grad_col,
    q_image,
    q_channel,
    q_row,
    q_col: tl.constexpr,
    k_image,
    k_channel,
    k_row,
    k_col,
    v_image,
    v_channel,
    v_row,
    v_col,
    grad_k_image,
    grad_k_channel,
    grad_k_row,
    grad_k_col,
    grad_v_image,
    grad_v_channel,
    grad_v_row,
    grad_v_col,
    height,
    width,
    heads,
    tiles_y,
    tiles_x,
    scale,
    factor,
    D: tl.constexpr,
    DV: tl.constexpr,
    KERNEL_ROWS: tl.constexpr,
    KERNEL_COLS: tl.constexpr,
    DILATION_ROWS: tl.constexpr,
    DILATION_COLS: tl.constexpr,
    EXTENT: tl.constexpr,
    POOL: tl.constexpr,
    HAS_K: tl.constexpr,
    HAS_REL: tl.constexpr,
    TILE_ROWS: tl.constexpr,
    TILE_COLS: tl.constexpr,
    TILE_HEADS: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_DV: tl.constexpr,
    COLS: tl.constexpr,
):
    """Write grad_k and grad_v; delta is the result of `queries_kernel`."""
    R: tl.constexpr = TILE_ROWS * TILE_COLS * TILE_HEADS
    image, head, y, x = rows_of_tile(
        tl.program_id(0), tl.program_id(1), tiles_y, tiles_x, TILE_ROWS, TILE_COLS, TILE_HEADS
    )
    inside = (head < heads) & (y < height) & (x < width)
    q += image * q_image
    grad += image * grad_image
    lse += image * heads * height * width
    delta += image * heads * height * width
    dk = tl.zeros([R, BLOCK_D], tl.float32)
    dv = tl.zeros([R, BLOCK_DV], tl.float32)
    key = tl.zeros([R, BLOCK_D], tl.float32)
    if HAS_K:
        at_k = k + image * k_image + head * (D * k_channel) + y * k_row + x * k_col
        key = load_rows(at_k, inside, k_channel, 0, D, BLOCK_D)
    at_v = v + image * v_image + head * (DV * v_channel) + y * v_row + x * v_col
    value = load_rows(at_v, inside, v_channel, 0, DV, BLOCK_DV)
    for first in range(0, KERNEL_COLS, COLS):
        for tap in range(KERNEL_ROWS):
            # The query whose window holds this key in its last row is above the key, and so on.
            query_y = y - (tap - KERNEL_ROWS // 2) * DILATION_ROWS
            row_inside = inside & (query_y >= 0) & (query_y < height)
            target = key
            if HAS_REL:
                target += load_row_embedding(rel, head, tap, inside, EXTENT, D, BLOCK_D)
            right = x - (first - KERNEL_COLS // 2) * DILATION_COLS
            at_q = q + head * (D * q_channel) + query_y * q_row + right * q_col
            for j in tl.static_range(COLS):
                query_x = x - (first + j - KERNEL_COLS // 2) * DILATION_COLS
                sees = row_inside & (first + j < KERNEL_COLS) & (query_x >= 0) & (query_x < width)
                at = at_q - j * (DILATION_COLS * q_col)
                query = load_rows(at, sees, q_channel, 0, D, BLOCK_D)
                if HAS_REL:
                    r = load_col_embedding(rel, head, KERNEL_ROWS + first + j, sees, EXTENT, D, BLOCK_D)
                    logit = tl.sum(query * (target + r), 1)
                else:
                    logit = tl.sum(query * target, 1)
                at_pixel = (head * height + query_y) * width + query_x
                normalizer = tl.load(lse + at_pixel, sees, 0.0)
                weight = tl.where(sees, tl.exp2(logit * factor - normalizer), 0.0)
                at = grad + head * (DV * grad_channel) + query_y // POOL * grad_row
                g = load_rows(at + query_x // POOL * grad_col, sees, grad_channel, 0, DV, BLOCK_DV)
                share = share_of_block(query_y, query_x, height, width, POOL)
                dv += (weight * share)[:, None] * g
                if HAS_K:
                    slope = tl.load(delta + at_pixel, sees, 0.0)
                    dlogit = weight * (tl.sum(g * value, 1) * share - slope)
                    dk += dlogit[:, None] * query
    if HAS_K:
        to = grad_k + image * grad_k_image + head * (D * grad_k_channel) + y * grad_k_row + x * grad_k_col
        store_rows(to, inside, grad_k_channel, dk * scale, 0, D, BLOCK_D)
    to = grad_v + image * grad_v_image + head * (DV * grad_v_channel) + y * grad_v_row + x * grad_v_col
    store_rows(to, inside, grad_v_channel, dv, 0, DV, BLOCK_DV)
