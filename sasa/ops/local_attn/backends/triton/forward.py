"""The forward kernel.

Each row of a tile is a cell of one head: POOL rows of QUERIES neighboring queries. Their windows are read
together, row by row and COLS columns at a time, with an online softmax in base 2 from row to row. Keys and
values that neighbors share are loaded, and converted to float32, once.
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
    QUERIES: tl.constexpr,
):
    """Write out, and for each query the logarithm in base 2 of the denominator of its softmax.

    factor is scale · log2(e); rel is the packed table (N, EXTENT, D).
    """
    R: tl.constexpr = TILE_ROWS * TILE_COLS * TILE_HEADS
    # Columns of the map from the first to the last that COLS columns of the queries' windows reach.
    REACH: tl.constexpr = (COLS - 1) * DILATION_COLS + QUERIES
    # Whether the last group of columns reaches beyond the window.
    SPARE: tl.constexpr = KERNEL_COLS % COLS != 0
    image, head, cell_y, cell_x = rows_of_tile(
        tl.program_id(0), tl.program_id(1), tiles_y, tiles_x, TILE_ROWS, TILE_COLS, TILE_HEADS
    )
    q += image * q_image
    k += image * k_image
    v += image * v_image
    x = cell_x * QUERIES
    means = ()
    for _ in tl.static_range(QUERIES // POOL):
        means += (tl.zeros([R, BLOCK_DV], tl.float32),)
    for row_of_cell in range(POOL):
        y = cell_y * POOL + row_of_cell
        inside = (head < heads) & (y < height)
        queries, peaks, totals, values = (), (), (), ()
        for i in tl.static_range(QUERIES):
            at = q + head * (D * q_channel) + y * q_row + (x + i) * q_col
            query = load_rows(at, inside & (x + i < width), q_channel, 0, D, BLOCK_D)
            queries += (query * factor,)
            peaks += (tl.full([R], float("-inf"), tl.float32),)
            totals += (tl.zeros([R], tl.float32),)
            values += (tl.zeros([R, BLOCK_DV], tl.float32),)
        for first in range(0, KERNEL_COLS, COLS):
            # Of column j of the window and query i, at j · QUERIES + i.
            by_col = ()
            if HAS_REL:
                for j in tl.static_range(COLS):
                    given = inside & (first + j < KERNEL_COLS)
                    r = load_col_embedding(rel, head, KERNEL_ROWS + first + j, given, EXTENT, D, BLOCK_D)
                    for i in tl.static_range(QUERIES):
                        by_col += (tl.sum(queries[i] * r, 1),)
            for tap in range(KERNEL_ROWS):
                key_y = y + (tap - KERNEL_ROWS // 2) * DILATION_ROWS
                row_inside = inside & (key_y >= 0) & (key_y < height)
                # Columns are compile-time steps from the window's first: offsets inside load instructions.
                left = x + (first - KERNEL_COLS // 2) * DILATION_COLS
                at_k = k + head * (D * k_channel) + key_y * k_row + left * k_col
                at_v = v + head * (DV * v_channel) + key_y * v_row + left * v_col
                # Of column c of the map and query i, at c · QUERIES + i, without the row's term.
                logits = ()
                for c in tl.static_range(REACH):
                    seen = row_inside & (left + c >= 0) & (left + c < width)
                    if HAS_K and c % DILATION_COLS < QUERIES:
                        key = load_rows(at_k + c * k_col, seen, k_channel, 0, D, BLOCK_D)
                    for i in tl.static_range(QUERIES):
                        logit = tl.zeros([R], tl.float32)
                        if c >= i and (c - i) % DILATION_COLS == 0 and (c - i) // DILATION_COLS < COLS:
                            if HAS_K:
                                logit += tl.sum(queries[i] * key, 1)
                            if HAS_REL:
                                logit += by_col[(c - i) // DILATION_COLS * QUERIES + i]
                            of_window = first + (c - i) // DILATION_COLS < KERNEL_COLS
                            logit = tl.where(seen & of_window, logit, float("-inf"))
                        logits += (logit,)
                if HAS_REL:
                    r = load_row_embedding(rel, head, tap, inside, EXTENT, D, BLOCK_D)
                tops, bases, shrunk_totals, shrunk_values = (), (), (), ()
                for i in tl.static_range(QUERIES):
                    top = logits[i * QUERIES + i]
                    for j in tl.static_range(1, COLS):
                        top = tl.maximum(top, logits[(i + j * DILATION_COLS) * QUERIES + i])
                    by_row = tl.zeros([R], tl.float32)
                    if HAS_REL:
                        # For a row outside the map the sum may not be a number.
                        by_row += tl.where(row_inside, tl.sum(queries[i] * r, 1), 0.0)
                    top = tl.maximum(peaks[i], top + by_row)
                    # Until something is seen the peak is −∞, and −∞ − −∞ is not a number.
                    base = tl.where(top == float("-inf"), 0.0, top)
                    shrink = tl.exp2(peaks[i] - base)
                    tops += (top,)
                    bases += (base - by_row,)
                    shrunk_totals += (totals[i] * shrink,)
                    shrunk_values += (values[i] * shrink[:, None],)
                peaks, totals, values = tops, shrunk_totals, shrunk_values
                for c in tl.static_range(REACH):
                    seen = row_inside & (left + c >= 0) & (left + c < width)
                    if c % DILATION_COLS < QUERIES:
                        read = load_rows(at_v + c * v_col, seen, v_channel, 0, DV, BLOCK_DV)
                    new_totals, new_values = (), ()
                    for i in tl.static_range(QUERIES):
                        total, value = totals[i], values[i]
                        if c >= i and (c - i) % DILATION_COLS == 0 and (c - i) // DILATION_COLS < COLS:
                            weight = tl.exp2(logits[c * QUERIES + i] - bases[i])
                            total += weight
                            part = weight[:, None] * read
                            if SPARE:  # a weight of 0 times what is not finite is not a number
                                part = tl.where(
                                    first + (c - i) // DILATION_COLS < KERNEL_COLS, part, tl.zeros_like(part)
                                )
                            value += part
                        new_totals += (total,)
                        new_values += (value,)
                    totals, values = new_totals, new_values
        new_means = ()
        for i in tl.static_range(QUERIES):
            there = inside & (x + i < width)
            share = share_of_block(y, x + i, height, width, POOL)
            if i % POOL == 0:
                mean = means[i // POOL]
            mean += tl.where(there[:, None], values[i] * (share / totals[i])[:, None], 0.0)
            if i % POOL == POOL - 1:
                new_means += (mean,)
            if SAVE_LSE:
                to = lse + image * heads * height * width + (head * height + y) * width + x + i
                tl.store(to, peaks[i] + tl.log2(totals[i]), there)
        means = new_means
    for i in tl.static_range(QUERIES // POOL):
        mean = means[i]
        if RELU:
            # NaN passes.
            mean = tl.where(mean < 0, 0.0, mean)
        out_x = cell_x * (QUERIES // POOL) + i
        written = (head < heads) & (cell_y * POOL < height) & (out_x * POOL < width)
        to = out + image * out_image + head * (DV * out_channel) + cell_y * out_row + out_x * out_col
        store_rows(to, written, out_channel, mean, 0, DV, BLOCK_DV)
