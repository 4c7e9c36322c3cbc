"""The forward kernel: outputs or their maxima, and the parts of the mean and variance of all outputs."""

import triton
import triton.language as tl

from sasa.ops.block_attn.backends.triton.block import (
    find_peak,
    is_inside,
    load_pixels,
    load_qk_weight,
    load_rel_weight,
    load_v_weight,
    make_values,
    next_place,
    place,
    weigh,
)


@triton.jit
def forward_kernel(
    x,
    qk_weight,
    rel_weight,
    v_weight,
    out,
    parts,
    x_image,
    x_channel,
    x_row,
    x_col,
    out_image,
    out_channel,
    out_row,
    out_col,
    height,
    width,
    blocks,
    squares_y,
    squares_x,
    squares_of_program,
    C: tl.constexpr,
    D: tl.constexpr,
    BLOCK: tl.constexpr,
    POSITIONS: tl.constexpr,
    WIDTH: tl.constexpr,
    POOL: tl.constexpr,
    STATISTICS: tl.constexpr,
):
    """Program (s, n) computes the blocks from s · squares_of_program on for head n.

    With STATISTICS it writes the number, the mean and the sum of squared deviations of each channel's outputs
    in these blocks to parts (num_programs(0), 3, N·D).
    """
    head, heads = tl.program_id(1), tl.num_programs(1)
    i = tl.arange(0, POSITIONS)[:, None]
    j = tl.arange(0, POSITIONS)[None, :]
    d = tl.arange(0, WIDTH)
    qk = load_qk_weight(qk_weight, head, C)
    rel = load_rel_weight(rel_weight, head, C, BLOCK, POSITIONS)
    v = load_v_weight(v_weight, head, C, D, BLOCK, POSITIONS, WIDTH)
    first = tl.program_id(0) * squares_of_program
    # Sums of differences from one of the outputs: sums of outputs far from zero would lose all digits.
    pivot = tl.zeros([WIDTH], tl.float32)
    total = tl.zeros([POSITIONS, WIDTH], tl.float32)
    squared = tl.zeros([POSITIONS, WIDTH], tl.float32)
    count = 0
    image, block_y, block_x = place(first, squares_y, squares_x)
    for block in tl.range(first, min(first + squares_of_program, blocks), num_stages=1):
        at = x + image * x_image + block_y * BLOCK * x_row + block_x * BLOCK * x_col
        inside = is_inside(i, block_y, block_x, height, width, BLOCK)
        seen = is_inside(j, block_y, block_x, height, width, BLOCK)
        queries = load_pixels(at, i, inside, x_channel, x_row, x_col, C, BLOCK)
        keys = load_pixels(at, j, seen, x_channel, x_row, x_col, C, BLOCK)
        weight, inverse = weigh(queries, keys, seen, qk, rel, C, POSITIONS)
        value = make_values(queries, v, inside, C)
        y = tl.dot(weight, value, input_precision="ieee") * inverse
        to = out + image * out_image + head * (D * out_channel)
        if POOL:
            peak = find_peak(y, inside)
            to += block_y * out_row + block_x * out_col
            tl.store(to + d * out_channel, peak.to(out.dtype.element_ty), d < D)
        else:
            row = block_y * BLOCK + i // BLOCK
            col = block_x * BLOCK + i % BLOCK
            to += row * out_row + col * out_col
            tl.store(to + d[None, :] * out_channel, y.to(out.dtype.element_ty), inside & (d < D)[None, :])
        if STATISTICS:
            pivot = tl.where(block == first, peak, pivot)
            difference = tl.where(inside, y - pivot[None, :], 0.0)
            total += difference
            squared += difference * difference
            rows = min(BLOCK, height - block_y * BLOCK)
            count += rows * min(BLOCK, width - block_x * BLOCK)
        image, block_y, block_x = next_place(image, block_y, block_x, squares_y, squares_x)
    if STATISTICS:
        sum_ = tl.sum(total, 0)
        mean = sum_ / count
        to_parts = parts + (tl.program_id(0).to(tl.int64) * 3 * heads + head) * D + d
        tl.store(to_parts, tl.full([WIDTH], count, tl.float32), d < D)
        tl.store(to_parts + heads * D, pivot + mean, d < D)
        tl.store(to_parts + 2 * heads * D, tl.sum(squared, 0) - sum_ * mean, d < D)
