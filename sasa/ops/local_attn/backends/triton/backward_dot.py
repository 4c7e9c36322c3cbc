"""The backward kernels with products on tensor cores, for windows without dilation.

As in `backward.py`, one gathers over the keys of each query and one over the queries of each key, and no two
programs add to the same memory. A program has M queries, or keys, of one image and head, and passes over the
rows of the map that any of their windows reaches.

The dtypes of maps are those of `forward_dot.py`. Weights and slopes are rounded to half precision, or tf32,
for the product with a map; sums are not, and the embeddings' gradients are with float32 maps alone. As in
`forward_dot.py`, a result that is not finite is computed again with EXACT, since a masked 0 times ∞ is not 0.
"""

import triton
import triton.language as tl

from sasa.ops.local_attn.backends.triton.products import (
    column,
    load_table,
    multiply,
    multiply_parts,
    multiply_rounded,
    not_finite,
    split,
)
from sasa.ops.local_attn.backends.triton.window import load_as_stored, share_of_block, store_rows


@triton.jit
def weigh(
    query,
    g,
    keys,
    values,
    by_tap,
    col_term,
    seen_x,
    tap_y,
    seen_y,
    normalizer,
    share,
    factor,
    HAS_K: tl.constexpr,
    HAS_REL: tl.constexpr,
    TAPS: tl.constexpr,
    EXACT: tl.constexpr,
):
    """Weights of one row of keys and the derivatives by them, both (M, KEY_COLS); masked weights are 0.

    EXACT selects them; otherwise the terms of masked keys are −∞.
    """
    row_term = -normalizer
    if HAS_REL:
        chosen = tl.arange(0, TAPS)[None, :] == tap_y[:, None]
        row_term += factor * tl.sum(tl.where(chosen, by_tap, 0.0), 1)
    product = col_term
    if HAS_K:
        product = tl.dot(query, tl.trans(keys), col_term, input_precision="tf32")
    if not EXACT:
        row_term = tl.where(seen_y, row_term, float("-inf"))
    weight = tl.exp2(product * factor + row_term[:, None])
    derivative = tl.dot(g, tl.trans(values), input_precision="tf32") * share[:, None]
    if EXACT:
        seen = seen_x & seen_y[:, None]
        weight = tl.where(seen, weight, 0.0)
        derivative = tl.where(seen, derivative, 0.0)
    return weight, derivative


@triton.jit
def differentiate_queries(
    query,
    g,
    by_tap,
    normalizer,
    share,
    y,
    x,
    inside,
    rel,
    k,
    v,
    k_channel,
    k_row,
    k_col,
    v_channel,
    v_row,
    v_col,
    head,
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
    EXTENT: tl.constexpr,
    HAS_K: tl.constexpr,
    HAS_REL: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_DV: tl.constexpr,
    KEY_COLS: tl.constexpr,
    TAPS: tl.constexpr,
    EXACT: tl.constexpr,
):
    """delta (M,), the gradient of q over scale (M, BLOCK_D), and the slopes of each tap (M, TAPS)."""
    M: tl.constexpr = query.shape[0]
    key_x = left + tl.arange(0, KEY_COLS)
    tap_x = key_x[None, :] - x[:, None] + KERNEL_COLS // 2
    seen_x = inside[:, None] & (tap_x >= 0) & (tap_x < KERNEL_COLS) & (key_x < width)[None, :]
    col_term = tl.zeros([M, KEY_COLS], tl.float32)
    if HAS_REL:
        col_term = tl.gather(by_tap, KERNEL_ROWS + tl.where(seen_x, tap_x, 0), 1)
    if not EXACT:
        col_term = tl.where(seen_x, col_term, float("-inf"))
    taps = tl.arange(0, TAPS)[None, :]
    delta = tl.zeros([M], tl.float32)
    dq = tl.zeros([M, BLOCK_D], tl.float32)
    of_rows = tl.zeros([M, TAPS], tl.float32)
    of_cols = tl.zeros([M, KEY_COLS], tl.float32)
    for with_delta in tl.static_range(2):
        deltas = tl.zeros([M, KEY_COLS], tl.float32)
        for key_y in range(top_row, end_row):
            tap_y = key_y - y + KERNEL_ROWS // 2
            seen_y = (tap_y >= 0) & (tap_y < KERNEL_ROWS)
            values = load_as_stored(
                v + key_y * v_row + key_x * v_col, key_x < width, v_channel, 0, DV, BLOCK_DV
            )
            keys = values
            if HAS_K:
                at = k + key_y * k_row + key_x * k_col
                keys = load_as_stored(at, key_x < width, k_channel, 0, D, BLOCK_D)
            weight, derivative = weigh(
                query,
                g,
                keys,
                values,
                by_tap,
                col_term,
                seen_x,
                tap_y,
                seen_y,
                normalizer,
                share,
                factor,
                HAS_K,
                HAS_REL,
                TAPS,
                EXACT,
            )
            seen = seen_x & seen_y[:, None]
            if with_delta == 0:
                deltas += weight * derivative
            else:
                slope = weight * (derivative - delta[:, None])
                if EXACT:
                    slope = tl.where(seen, slope, 0.0)
                if HAS_REL:
                    of_rows += tl.where(taps == tap_y[:, None], tl.sum(slope, 1)[:, None], 0.0)
                    of_cols += slope
                if HAS_K:
                    if EXACT:
                        for c in range(KEY_COLS):
                            at_c = k + key_y * k_row + (left + c) * k_col
                            key = load_one(at_c, left + c < width, k_channel, D, BLOCK_D)
                            part = column(slope, c, KEY_COLS)[:, None] * key
                            dq += tl.where((column(seen.to(tl.int32), c, KEY_COLS) > 0)[:, None], part, 0.0)
                    else:
                        dq = multiply_rounded(slope, keys, dq)
        if with_delta == 0:
            delta = tl.sum(deltas, 1)
    if HAS_REL:
        # From columns of the map to columns of the window; a tap without a key has no slope.
        at = taps - KERNEL_ROWS + x[:, None] - KERNEL_COLS // 2 - left
        given = (taps >= KERNEL_ROWS) & (at >= 0) & (at < KEY_COLS)
        of_cols = tl.gather(of_cols, tl.where(given, at, 0), 1)
        slopes = tl.where(given & (taps < EXTENT), of_cols, of_rows)
        if EXACT:
            for tap in range(EXTENT):
                r = load_one(rel + (head * EXTENT + tap) * D, head >= 0, 1, D, BLOCK_D)
                at_y = y + tap - KERNEL_ROWS // 2
                at_x = x + tap - KERNEL_ROWS - KERNEL_COLS // 2
                used = tl.where(
                    tap < KERNEL_ROWS, (at_y >= 0) & (at_y < height), (at_x >= 0) & (at_x < width)
                )
                dq += tl.where(used[:, None], column(slopes, tap, TAPS)[:, None] * r, 0.0)
        else:
            # Loaded again rather than kept in registers.
            table = load_table(rel, head, EXTENT, D, TAPS, BLOCK_D)
            if query.dtype == tl.bfloat16:
                table = table.to(tl.bfloat16)
            dq = multiply_rounded(slopes, table, dq)
    else:
        slopes = of_rows
    return delta, dq, slopes


@triton.jit
def load_one(at, inside, step, LENGTH: tl.constexpr, BLOCK: tl.constexpr):
    """One pixel of a map, (1, BLOCK), in float32."""
    d = tl.arange(0, BLOCK)[None, :]
    return tl.load(at + d * step, d < tl.where(inside, LENGTH, 0), 0.0).to(tl.float32)


@triton.jit
def queries_dot_kernel(
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
    k_col,
    v_image,
    v_channel,
    v_row,
    v_col,
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
    EXTENT: tl.constexpr,
    POOL: tl.constexpr,
    HAS_K: tl.constexpr,
    HAS_REL: tl.constexpr,
    TILE_ROWS: tl.constexpr,
    TILE_COLS: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_DV: tl.constexpr,
    OTHER_COLS: tl.constexpr,
    TAPS: tl.constexpr,
):
    """Compute what `backward.queries_kernel` does; the grid is (heads, programs)."""
    M: tl.constexpr = TILE_ROWS * TILE_COLS
    head = tl.program_id(0)
    m = tl.arange(0, M)
    taps = tl.arange(0, TAPS)
    to_partial = partial + ((tl.program_id(1) * heads + head) * EXTENT + taps) * D
    for tile in range(tl.program_id(1), tiles, tl.num_programs(1)):
        image = (tile // (tiles_y * tiles_x)).to(tl.int64)
        tile_y = tile % (tiles_y * tiles_x) // tiles_x * TILE_ROWS
        tile_x = tile % tiles_x * TILE_COLS
        y = tile_y + m // TILE_COLS
        x = tile_x + m % TILE_COLS
        inside = (y < height) & (x < width)
        at = q + image * q_image + head * (D * q_channel) + y * q_row + x * q_col
        query = load_as_stored(at, inside, q_channel, 0, D, BLOCK_D)
        at = grad + image * grad_image + head * (DV * grad_channel)
        at += y // POOL * grad_row + x // POOL * grad_col
        g = load_as_stored(at, inside, grad_channel, 0, DV, BLOCK_DV)
        share = share_of_block(y, x, height, width, POOL)
        at_pixel = image * heads * height * width + (head * height + y) * width + x
        normalizer = tl.load(lse + at_pixel, inside, 0.0)
        by_tap = tl.zeros([M, TAPS], tl.float32)
        if HAS_REL:
            table = load_table(rel, head, EXTENT, D, TAPS, BLOCK_D)
            by_tap = multiply(query, tl.trans(table))
        k_of_head = k + image * k_image + head * (D * k_channel)
        v_of_head = v + image * v_image + head * (DV * v_channel)
        top_row = tl.maximum(tile_y - KERNEL_ROWS // 2, 0)
        end_row = tl.minimum(tile_y + TILE_ROWS + KERNEL_ROWS // 2, height)
        left = tl.maximum(tile_x - KERNEL_COLS // 2, 0)
        dq = tl.zeros([M, BLOCK_D], tl.float32)
        for EXACT in tl.static_range(2):
            if EXACT == 0 or not_finite(dq):
                of_query, dq, slopes = differentiate_queries(
                    query,
                    g,
                    by_tap,
                    normalizer,
                    share,
                    y,
                    x,
                    inside,
                    rel,
                    k_of_head,
                    v_of_head,
                    k_channel,
                    k_row,
                    k_col,
                    v_channel,
                    v_row,
                    v_col,
                    head,
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
                    EXTENT,
                    HAS_K,
                    HAS_REL,
                    BLOCK_D,
                    BLOCK_DV,
                    OTHER_COLS,
                    TAPS,
                    EXACT,
                )
        if HAS_REL:
            # Slopes of a query that is not finite are not finite either; it must not meet slopes of 0.
            finite = tl.where(query - query == 0, query, tl.zeros_like(query))
            part = multiply_parts(split(tl.trans(slopes), finite.dtype), finite) * scale
            before = load_as_stored(to_partial, taps < EXTENT, 1, 0, D, BLOCK_D)
            # Threads load what other threads store: all wait before and after the store.
            tl.debug_barrier()
            store_rows(to_partial, taps < EXTENT, 1, before + part, 0, D, BLOCK_D)
            tl.debug_barrier()
        tl.store(delta + at_pixel, of_query, inside)
        to = grad_q + image * grad_q_image + head * (D * grad_q_channel) + y * grad_q_row + x * grad_q_col
        store_rows(to, inside, grad_q_channel, dq * scale, 0, D, BLOCK_D)


@triton.jit
def differentiate_keys(
    key,
    value,
    table,
    y,
    x,
    inside,
    q,
    grad,
    lse,
    delta,
    q_channel,
    q_row,
    q_col,
    grad_channel,
    grad_row,
    grad_col,
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
    POOL: tl.constexpr,
    HAS_K: tl.constexpr,
    HAS_REL: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_DV: tl.constexpr,
    QUERY_COLS: tl.constexpr,
    EXACT: tl.constexpr,
):
    """The gradients of k over scale (M, BLOCK_D) and of v (M, BLOCK_DV)."""
    M: tl.constexpr = key.shape[0]
    query_x = left + tl.arange(0, QUERY_COLS)
    tap_x = x[:, None] - query_x[None, :] + KERNEL_COLS // 2
    sees_x = inside[:, None] & (tap_x >= 0) & (tap_x < KERNEL_COLS) & (query_x < width)[None, :]
    at_col = KERNEL_ROWS + tl.where(sees_x, tap_x, 0)
    dk = tl.zeros([M, BLOCK_D], tl.float32)
    dv = tl.zeros([M, BLOCK_DV], tl.float32)
    for query_y in range(top_row, end_row):
        tap_y = y - query_y + KERNEL_ROWS // 2
        sees_y = (tap_y >= 0) & (tap_y < KERNEL_ROWS)
        sees = sees_x & sees_y[:, None]
        at = q + query_y * q_row + query_x * q_col
        queries = load_as_stored(at, query_x < width, q_channel, 0, D, BLOCK_D)
        at = grad + query_y // POOL * grad_row + query_x // POOL * grad_col
        g = load_as_stored(at, query_x < width, grad_channel, 0, DV, BLOCK_DV)
        normalizer = tl.load(lse + query_y * width + query_x, query_x < width, 0.0)
        product = tl.zeros([M, QUERY_COLS], tl.float32)
        if HAS_REL:
            by_tap = multiply_parts(table, tl.trans(queries))
            at_row = tl.broadcast_to(tl.where(sees_y, tap_y, 0)[:, None], [M, QUERY_COLS])
            product = tl.gather(by_tap, at_col, 0) + tl.gather(by_tap, at_row, 0)
        if HAS_K:
            product = tl.dot(key, tl.trans(queries), product, input_precision="tf32")
        weight = tl.where(sees, tl.exp2(product * factor - normalizer[None, :]), 0.0)
        share = share_of_block(tl.full([QUERY_COLS], query_y, tl.int32), query_x, height, width, POOL)
        shared = weight * share[None, :]
        slope = tl.zeros([M, QUERY_COLS], tl.float32)
        if HAS_K:
            of_query = tl.load(delta + query_y * width + query_x, query_x < width, 0.0)
            derivative = tl.dot(value, tl.trans(g), input_precision="tf32") * share[None, :]
            slope = weight * (derivative - of_query[None, :])
        if EXACT:
            for c in range(QUERY_COLS):
                sees_c = (column(sees.to(tl.int32), c, QUERY_COLS) > 0)[:, None]
                at_c = grad + query_y // POOL * grad_row + (left + c) // POOL * grad_col
                g_c = load_one(at_c, left + c < width, grad_channel, DV, BLOCK_DV)
                dv += tl.where(sees_c, column(shared, c, QUERY_COLS)[:, None] * g_c, 0.0)
                if HAS_K:
                    at_c = q + query_y * q_row + (left + c) * q_col
                    query = load_one(at_c, left + c < width, q_channel, D, BLOCK_D)
                    dk += tl.where(sees_c, column(slope, c, QUERY_COLS)[:, None] * query, 0.0)
        else:
            dv = tl.dot(shared.to(g.dtype), g, dv, input_precision="tf32")
            if HAS_K:
                dk = multiply_rounded(slope, queries, dk)
    return dk, dv


@triton.jit
def keys_dot_kernel(
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
    q_col,
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
    EXTENT: tl.constexpr,
    POOL: tl.constexpr,
    HAS_K: tl.constexpr,
    HAS_REL: tl.constexpr,
    TILE_ROWS: tl.constexpr,
    TILE_COLS: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_DV: tl.constexpr,
    OTHER_COLS: tl.constexpr,
    TAPS: tl.constexpr,
):
    """Compute what `backward.keys_kernel` does."""
    M: tl.constexpr = TILE_ROWS * TILE_COLS
    head = tl.program_id(0) % heads
    tile = tl.program_id(0) // heads
    image = (tile // (tiles_y * tiles_x)).to(tl.int64)
    tile_y = tile % (tiles_y * tiles_x) // tiles_x * TILE_ROWS
    tile_x = tile % tiles_x * TILE_COLS
    m = tl.arange(0, M)
    y = tile_y + m // TILE_COLS
    x = tile_x + m % TILE_COLS
    inside = (y < height) & (x < width)
    at = v + image * v_image + head * (DV * v_channel) + y * v_row + x * v_col
    value = load_as_stored(at, inside, v_channel, 0, DV, BLOCK_DV)
    key = tl.zeros([M, BLOCK_D], q.dtype.element_ty)
    if HAS_K:
        at = k + image * k_image + head * (D * k_channel) + y * k_row + x * k_col
        key = load_as_stored(at, inside, k_channel, 0, D, BLOCK_D)
    table = ()
    if HAS_REL:
        table = split(load_table(rel, head, EXTENT, D, TAPS, BLOCK_D), q.dtype.element_ty)
    q += image * q_image + head * (D * q_channel)
    grad += image * grad_image + head * (DV * grad_channel)
    lse += (image * heads + head) * height * width
    delta += (image * heads + head) * height * width
    # A query whose window holds a key is at most half a window away, as the keys of a query are.
    top_row = tl.maximum(tile_y - KERNEL_ROWS // 2, 0)
    end_row = tl.minimum(tile_y + TILE_ROWS + KERNEL_ROWS // 2, height)
    left = tl.maximum(tile_x - KERNEL_COLS // 2, 0)
    dk = tl.zeros([M, BLOCK_D], tl.float32)
    dv = tl.zeros([M, BLOCK_DV], tl.float32)
    for EXACT in tl.static_range(2):
        if EXACT == 0 or not_finite(dk) | not_finite(dv):
            dk, dv = differentiate_keys(
                key,
                value,
                table,
                y,
                x,
                inside,
                q,
                grad,
                lse,
                delta,
                q_channel,
                q_row,
                q_col,
                grad_channel,
                grad_row,
                grad_col,
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
                POOL,
                HAS_K,
                HAS_REL,
                BLOCK_D,
                BLOCK_DV,
                OTHER_COLS,
                EXACT,
            )
    if HAS_K:
        to = grad_k + image * grad_k_image + head * (D * grad_k_channel) + y * grad_k_row + x * grad_k_col
        store_rows(to, inside, grad_k_channel, dk * scale, 0, D, BLOCK_D)
    to = grad_v + image * grad_v_image + head * (DV * grad_v_channel) + y * grad_v_row + x * grad_v_col
    store_rows(to, inside, grad_v_channel, dv, 0, DV, BLOCK_DV)
