"""The forward kernel with products on tensor cores, for windows without dilation.

Maps are float16, bfloat16, or float32 whose products are tf32.

A program has a tile of M queries of one image and head, and reads the keys that any of their windows holds,
KEY_ROWS rows of KEY_COLS columns at a time. Keys outside a query's own window are masked out of its softmax.
"""

import triton
import triton.language as tl

from sasa.ops.local_attn.backends.triton.products import load_table, multiply, not_finite
from sasa.ops.local_attn.backends.triton.window import load_as_stored, share_of_block, store_rows


@triton.jit
def attend(
    query,
    by_tap,
    y,
    x,
    inside,
    k,
    v,
    k_channel,
    k_row,
    k_col,
    v_channel,
    v_row,
    v_col,
    top_row,
    end_row,
    left,
    height,
    width,
    factor,
    D: tl.constexpr,
    DV: tl.constexpr,
    KERNEL_ROWS: tl.constexpr,
    KERNEL_COLS: tl.constexpr,
    HAS_K: tl.constexpr,
    HAS_REL: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_DV: tl.constexpr,
    KEY_ROWS: tl.constexpr,
    KEY_COLS: tl.constexpr,
    TAPS: tl.constexpr,
    EXACT: tl.constexpr,
):
    """Peak and sum of the softmax, (M,), and the weighted values, (M, BLOCK_DV), not divided by the sum.

    Unless EXACT, they are right if all numbers that the tile meets are finite; otherwise a weighted value is
    not finite: a mask is −∞ in a sum, which gives NaN with a product of +∞, and a masked weight is 0, which
    gives NaN with a value of ∞. EXACT masks by selection, one value after the other.
    """
    M: tl.constexpr = query.shape[0]
    col = tl.arange(0, KEY_COLS)
    key_x = left + col
    tap_x = key_x[None, :] - x[:, None] + KERNEL_COLS // 2
    seen_x = inside[:, None] & (tap_x >= 0) & (tap_x < KERNEL_COLS) & (key_x < width)[None, :]
    # The same for every row of keys.
    col_term = tl.zeros([M, KEY_COLS], tl.float32)
    if HAS_REL:
        col_term = tl.gather(by_tap, KERNEL_ROWS + tl.where(seen_x, tap_x, 0), 1)
    if not EXACT:
        col_term = tl.where(seen_x, col_term, float("-inf"))
    taps = tl.arange(0, TAPS)
    peak = tl.full([M], float("-inf"), tl.float32)
    total = tl.zeros([M], tl.float32)
    value = tl.zeros([M, BLOCK_DV], tl.float32)
    for first in range(top_row, end_row, KEY_ROWS):
        logits = ()
        tops = tl.full([M, KEY_COLS], float("-inf"), tl.float32)
        for j in tl.static_range(KEY_ROWS):
            key_y = first + j
            tap_y = key_y - y + KERNEL_ROWS // 2
            seen_y = (tap_y >= 0) & (tap_y < KERNEL_ROWS) & (key_y < height)
            row_term = tl.zeros([M], tl.float32)
            if HAS_REL:
                row_term += tl.sum(tl.where(taps[None, :] == tap_y[:, None], by_tap, 0.0), 1)
            row_term = tl.where(seen_y, row_term * factor, float("-inf"))
            product = col_term
            if HAS_K:
                at = k + key_y * k_row + key_x * k_col
                keys = load_as_stored(
                    at, key_x < tl.where(key_y < height, width, 0), k_channel, 0, D, BLOCK_D
                )
                product = tl.dot(query, tl.trans(keys), col_term, input_precision="tf32")
            logit = product * factor + row_term[:, None]
            if EXACT:
                logit = tl.where(seen_x & seen_y[:, None], logit, float("-inf"))
            tops = tl.maximum(tops, logit)
            logits = logits + (logit,)
        top = tl.maximum(peak, tl.max(tops, 1))
        # Until something is seen the peak is −∞, and −∞ − −∞ is not a number.
        base = tl.where(top == float("-inf"), 0.0, top)
        shrink = tl.exp2(peak - base)
        peak = top
        weights = tl.zeros([M, KEY_COLS], tl.float32)
        value *= shrink[:, None]
        for j in tl.static_range(KEY_ROWS):
            key_y = first + j
            weight = tl.exp2(logits[j] - base[:, None])
            weights += weight
            if EXACT:
                tap_y = key_y - y + KERNEL_ROWS // 2
                seen = seen_x & ((tap_y >= 0) & (tap_y < KERNEL_ROWS) & (key_y < height))[:, None]
                for c in range(KEY_COLS):
                    chosen = (col == c)[None, :]
                    weight_c = tl.sum(tl.where(chosen, weight, 0.0), 1)
                    seen_c = tl.max(tl.where(chosen & seen, 1, 0), 1) > 0
                    d = tl.arange(0, BLOCK_DV)
                    mask = d < tl.where((key_y < height) & (left + c < width), DV, 0)
                    at_c = v + key_y * v_row + (left + c) * v_col + d * v_channel
                    part = weight_c[:, None] * tl.load(at_c, mask, 0.0).to(tl.float32)[None, :]
                    value += tl.where(seen_c[:, None], part, 0.0)
            else:
                at = v + key_y * v_row + key_x * v_col
                values = load_as_stored(
                    at, key_x < tl.where(key_y < height, width, 0), v_channel, 0, DV, BLOCK_DV
                )
                value = tl.dot(weight.to(values.dtype), values, value, input_precision="tf32")
        total = total * shrink + tl.sum(weights, 1)
    return peak, total, value


@triton.jit
def forward_dot_kernel(
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
    k_col,
    v_image,
    v_channel,
    v_row,
    v_col,
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
    EXTENT: tl.constexpr,
    POOL: tl.constexpr,
    RELU: tl.constexpr,
    HAS_K: tl.constexpr,
    HAS_REL: tl.constexpr,
    SAVE_LSE: tl.constexpr,
    TILE_ROWS: tl.constexpr,
    TILE_COLS: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_DV: tl.constexpr,
    KEY_ROWS: tl.constexpr,
    KEY_COLS: tl.constexpr,
    TAPS: tl.constexpr,
):
    """Compute what `forward.forward_kernel` does; a tile holds whole pooling blocks, TAPS is at least EXTENT.

    Weights are rounded to the dtype of the maps, or tf32, for the product with the values; their sum and lse
    are not.
    """
    M: tl.constexpr = TILE_ROWS * TILE_COLS
    BLOCK: tl.constexpr = POOL * POOL
    # The head changes fastest: the heads of a pixel are neighbors in channels-last maps.
    head = tl.program_id(0) % heads
    tile = tl.program_id(0) // heads
    image = (tile // (tiles_y * tiles_x)).to(tl.int64)
    within = tile % (tiles_y * tiles_x)
    tile_y = within // tiles_x * TILE_ROWS
    tile_x = within % tiles_x * TILE_COLS
    # The queries of a pooling block are consecutive.
    m = tl.arange(0, M)
    y = tile_y + m // BLOCK // (TILE_COLS // POOL) * POOL + m % BLOCK // POOL
    x = tile_x + m // BLOCK % (TILE_COLS // POOL) * POOL + m % POOL
    inside = (y < height) & (x < width)
    at = q + image * q_image + head * (D * q_channel) + y * q_row + x * q_col
    query = load_as_stored(at, inside, q_channel, 0, D, BLOCK_D)
    by_tap = tl.zeros([M, TAPS], tl.float32)
    if HAS_REL:
        table = load_table(rel, head, EXTENT, D, TAPS, BLOCK_D)
        by_tap = multiply(query, tl.trans(table))
    k += image * k_image + head * (D * k_channel)
    v += image * v_image + head * (DV * v_channel)
    top_row = tl.maximum(tile_y - KERNEL_ROWS // 2, 0)
    end_row = tl.minimum(tile_y + TILE_ROWS + KERNEL_ROWS // 2, height)
    left = tl.maximum(tile_x - KERNEL_COLS // 2, 0)
    value = tl.zeros([M, BLOCK_DV], tl.float32)
    for EXACT in tl.static_range(2):
        # A number that is not finite has also reached queries that do not see it.
        if EXACT == 0 or not_finite(value):
            peak, total, value = attend(
                query,
                by_tap,
                y,
                x,
                inside,
                k,
                v,
                k_channel,
                k_row,
                k_col,
                v_channel,
                v_row,
                v_col,
                top_row,
                end_row,
                left,
                height,
                width,
                factor,
                D,
                DV,
                KERNEL_ROWS,
                KERNEL_COLS,
                HAS_K,
                HAS_REL,
                BLOCK_D,
                BLOCK_DV,
                KEY_ROWS,
                KEY_COLS,
                TAPS,
                EXACT,
            )
    if SAVE_LSE:
        to = lse + image * heads * height * width + (head * height + y) * width + x
        tl.store(to, peak + tl.log2(total), inside)
    share = share_of_block(y, x, height, width, POOL)
    mean = tl.where(inside[:, None], value * (share / total)[:, None], 0.0)
    if POOL > 1:
        mean = tl.sum(tl.reshape(mean, [M // BLOCK, BLOCK, BLOCK_DV]), 1)
    if RELU:
        # NaN passes.
        mean = tl.where(mean < 0, 0.0, mean)
    o = tl.arange(0, M // BLOCK)
    out_y = tile_y // POOL + o // (TILE_COLS // POOL)
    out_x = tile_x // POOL + o % (TILE_COLS // POOL)
    written = (out_y * POOL < height) & (out_x * POOL < width)
    to = out + image * out_image + head * (DV * out_channel) + out_y * out_row + out_x * out_col
    store_rows(to, written, out_channel, mean, 0, DV, BLOCK_DV)
