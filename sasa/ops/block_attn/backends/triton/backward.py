"""The backward kernel: the gradients of qk_weight, rel_weight and v_weight, from recomputed softmax weights.

With p the weights of a query, g the gradient of its output and dp_j = g·v_j

    dlogit_j = p_j · (dp_j − Σ p · dp),   dv_j = Σ over queries of p_j g

and the gradient of each argument is a sum over blocks of one of them times pixels. A program keeps the sums
over its blocks in registers and writes them to a place of its own: no two programs add to the same memory.
"""

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
    place_of_v_weight,
    weigh,
)


@triton.jit
def gradient_of_outputs(
    y,
    at,
    step,
    inside,
    mean,
    shift,
    slope,
    D: tl.constexpr,
    POSITIONS: tl.constexpr,
    WIDTH: tl.constexpr,
    STATISTICS: tl.constexpr,
):
    """The gradient (POSITIONS, WIDTH) of the outputs y, 0 outside.

    It is that of the maximum, for the first output that equals it, plus that of mean and variance.
    """
    i = tl.arange(0, POSITIONS)[:, None]
    d = tl.arange(0, WIDTH)
    peak = find_peak(y, inside)
    first = tl.min(tl.where(inside & (y == peak[None, :]), i, POSITIONS), 0)
    of_peak = tl.load(at + d * step, d < D, 0.0).to(tl.float32)
    g = tl.where(i == first[None, :], of_peak[None, :], 0.0)
    if STATISTICS:
        g += shift[None, :] + slope[None, :] * (y - mean[None, :])
    return tl.where(inside, g, 0.0)


@triton.jit
def backward_kernel(
    grad,
    x,
    qk_weight,
    rel_weight,
    v_weight,
    statistics,
    grad_forms,
    grad_relative,
    grad_matrices,
    grad_image,
    grad_channel,
    grad_row,
    grad_col,
    x_image,
    x_channel,
    x_row,
    x_col,
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
    PRECISION: tl.constexpr,
    ROWS: tl.constexpr,
):
    """Program (s, n) writes part s of head n's gradients; they are (num_programs(0), *the argument's shape).

    statistics (3, N·D) holds mean, shift and slope of each channel: the gradient of every output is that of
    the maximum plus shift + slope · (output − mean). PRECISION is that of products of tiles. Sums for
    qk_weight have ROWS rows, one for every ROWS-th position: those of one thread.
    """
    P: tl.constexpr = BLOCK * BLOCK
    head, heads = tl.program_id(1), tl.num_programs(1)
    i = tl.arange(0, POSITIONS)[:, None]
    j = tl.arange(0, POSITIONS)[None, :]
    d = tl.arange(0, WIDTH)
    qk = load_qk_weight(qk_weight, head, C)
    rel = load_rel_weight(rel_weight, head, C, BLOCK, POSITIONS)
    v = load_v_weight(v_weight, head, C, D, BLOCK, POSITIONS, WIDTH)
    mean = d
    shift = d
    slope = d
    if STATISTICS:
        at_statistics = statistics + head * D + d
        mean = tl.load(at_statistics, d < D, 0.0)
        shift = tl.load(at_statistics + heads * D, d < D, 0.0)
        slope = tl.load(at_statistics + 2 * heads * D, d < D, 0.0)
    to_qk_weight = ()
    to_rel_weight = ()
    to_v_weight = ()
    for _c in tl.static_range(C):
        to_rel_weight = to_rel_weight + (tl.zeros([POSITIONS, POSITIONS], tl.float32),)
        to_v_weight = to_v_weight + (tl.zeros([POSITIONS, WIDTH], tl.float32),)
    for _f in tl.static_range(C * C):
        to_qk_weight = to_qk_weight + (tl.zeros([ROWS, 1], tl.float32),)
    first = tl.program_id(0) * squares_of_program
    image, block_y, block_x = place(first, squares_y, squares_x)
    for _block in tl.range(first, min(first + squares_of_program, blocks), num_stages=1):
        at = x + image * x_image + block_y * BLOCK * x_row + block_x * BLOCK * x_col
        inside = is_inside(i, block_y, block_x, height, width, BLOCK)
        seen = is_inside(j, block_y, block_x, height, width, BLOCK)
        queries = load_pixels(at, i, inside, x_channel, x_row, x_col, C, BLOCK)
        keys = load_pixels(at, j, seen, x_channel, x_row, x_col, C, BLOCK)
        weight, inverse = weigh(queries, keys, seen, qk, rel, C, POSITIONS)
        # Positions outside take no part, even if 0 times something is not a number.
        weight = tl.where(inside & seen, weight * inverse, 0.0)
        value = make_values(queries, v, inside, C)
        at_grad = grad + image * grad_image + head * (D * grad_channel)
        if POOL:
            y = tl.dot(weight, value, input_precision=PRECISION)
            at_grad += block_y * grad_row + block_x * grad_col
            g = gradient_of_outputs(
                y, at_grad, grad_channel, inside, mean, shift, slope, D, POSITIONS, WIDTH, STATISTICS
            )
        else:
            row = block_y * BLOCK + i // BLOCK
            col = block_x * BLOCK + i % BLOCK
            at_grad += row * grad_row + col * grad_col
            g = tl.load(at_grad + d[None, :] * grad_channel, inside & (d < D)[None, :], 0.0).to(tl.float32)
        dvalue = tl.dot(tl.trans(weight), g, input_precision=PRECISION)
        dweight = tl.dot(g, tl.trans(value), input_precision=PRECISION)
        dlogit = weight * (dweight - tl.sum(tl.where(seen, weight * dweight, 0.0), 1)[:, None])
        dlogit = tl.where(inside & seen, dlogit, 0.0)
        qk_before = to_qk_weight
        rel_before = to_rel_weight
        v_before = to_v_weight
        to_qk_weight = ()
        to_rel_weight = ()
        to_v_weight = ()
        for c in tl.static_range(C):
            to_rel_weight = to_rel_weight + (rel_before[c] + queries[c] * dlogit,)
            to_v_weight = to_v_weight + (v_before[c] + queries[c] * dvalue,)
            by_key = tl.sum(dlogit * keys[c], 1)[:, None]
            for b in tl.static_range(C):
                part = tl.sum(tl.reshape(queries[b] * by_key, [POSITIONS // ROWS, ROWS, 1]), 0)
                to_qk_weight = to_qk_weight + (qk_before[c * C + b] + part,)
        image, block_y, block_x = next_place(image, block_y, block_x, squares_y, squares_x)
    part = tl.program_id(0).to(tl.int64) * heads + head
    for c in tl.static_range(C):
        to = grad_relative + (part * C + c) * (P * P)
        tl.store(to + i * P + j, to_rel_weight[c], (i < P) & (j < P))
        to = grad_matrices + tl.program_id(0).to(tl.int64) * (P * heads * D * C) + c
        to += place_of_v_weight(head, C, D, POSITIONS, WIDTH)
        tl.store(to, to_v_weight[c], (i < P) & (d < D)[None, :])
        for b in tl.static_range(C):
            tl.store(grad_forms + (part * C + b) * C + c, tl.sum(tl.sum(to_qk_weight[c * C + b], 1), 0))
