"""The forward kernel: outputs or their maxima, and what mean and variance of all outputs need."""

import triton
import triton.language as tl

from sasa.ops.block_attn.backends.triton.block import (
    find_peak,
    is_inside,
    load_forms,
    load_matrices,
    load_pixels,
    load_relative,
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
    """Program (s, n) computes the s-th `squares_of_program` blocks for head n.

    With STATISTICS, parts (num_programs(0), 3, N·D) gets the number, the mean and the sum of squared
    deviations of each channel's outputs in these blocks.
    """
    head, heads = tl.program_id(1), tl.num_programs(1)
    i = tl.arange(0, POSITIONS)[:, None]
    j = tl.arange(0, POSITIONS)[None, :]
    d = tl.arange(0, WIDTH)
    form = load_forms(qk_weight, head, C)
    rel = load_relative(rel_weight, head, C, BLOCK, POSITIONS)
    matrix = load_matrices(v_weight, head, C, D, BLOCK, POSITIONS, WIDTH)
    first = tl.program_id(0) * squares_of_program
    # Sums around a number among the outputs: blocks of outputs far from zero would lose all digits.
    pivot = tl.zeros([WIDTH], tl.float32)
    total = tl.zeros([POSITIONS, WIDTH], tl.float32)
    squared = tl.zeros([POSITIONS, WIDTH], tl.float32)
    count = 0
    image, square_y, square_x = place(first, squares_y, squares_x)
    for block in tl.range(first, min(first + squares_of_program, blocks), num_stages=1):
        at = x + image * x_image + square_y * BLOCK * x_row + square_x * BLOCK * x_col
        inside = is_inside(i, square_y, square_x, height, width, BLOCK)
        seen = is_inside(j, square_y, square_x, height, width, BLOCK)
        queries = load_pixels(at, i, inside, x_channel, x_row, x_col, C, BLOCK)
        keys = load_pixels(at, j, seen, x_channel, x_row, x_col, C, BLOCK)
        weight, inverse = weigh(queries, keys, seen, form, rel, C, POSITIONS)
        value = make_values(queries, matrix, inside, C)
        y = tl.dot(weight, value, input_precision="ieee") * inverse
        to = out + image * out_image + head * (D * out_channel)
        if POOL:
            peak = find_peak(y, inside)
            to += square_y * out_row + square_x * out_col
            tl.store(to + d * out_channel, peak.to(out.dtype.element_ty), d < D)
        else:
            row = square_y * BLOCK + i // BLOCK
            col = square_x * BLOCK + i % BLOCK
            to += row * out_row + col * out_col
            tl.store(to + d[None, :] * out_channel, y.to(out.dtype.element_ty), inside & (d < D)[None, :])
        if STATISTICS:
            pivot = tl.where(block == first, peak, pivot)
            difference = tl.where(inside, y - pivot[None, :], 0.0)
            total += difference
            squared += difference * difference
            rows = min(BLOCK, height - square_y * BLOCK)
            count += rows * min(BLOCK, width - square_x * BLOCK)
        image, square_y, square_x = next_place(image, square_y, square_x, squares_y, squares_x)
    if STATISTICS:
        sum_ = tl.sum(total, 0)
        mean = sum_ / count
        to_parts = parts + (tl.program_id(0).to(tl.int64) * 3 * heads + head) * D + d
        tl.store(to_parts, tl.full([WIDTH], count, tl.float32), d < D)
        tl.store(to_parts + heads * D, pivot + mean, d < D)
        tl.store(to_parts + 2 * heads * D, tl.sum(squared, 0) - sum_ * mean, d < D)
