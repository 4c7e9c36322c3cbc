"""Attention inside blocks in loops, from its equations: NumPy in float64, nothing of `sasa`."""

from __future__ import annotations

import itertools

import numpy as np

Array = np.ndarray


def block_attention(x: Array, qk_weight: Array, rel_weight: Array, v_weight: Array, block_size: int) -> Array:
    """x (B, C, H, W), qk_weight (N, C, C), rel_weight (N, C, P, P), v_weight (P, O, C) to (B, O, H, W)."""
    batch, _, height, width = x.shape
    heads, outputs = len(qk_weight), v_weight.shape[1]
    out = np.zeros((batch, outputs, height, width))
    for b, top, left in itertools.product(
        range(batch), range(0, height, block_size), range(0, width, block_size)
    ):
        rows, cols = range(top, min(top + block_size, height)), range(left, min(left + block_size, width))
        pixels = list(itertools.product(rows, cols))
        position = {(r, c): (r - top) * block_size + c - left for r, c in pixels}
        for head, query in itertools.product(range(heads), pixels):
            own = slice(head * outputs // heads, (head + 1) * outputs // heads)
            x_i, i = x[(b, slice(None), *query)], position[query]
            logits, values = [], []
            for key in pixels:
                x_j, j = x[(b, slice(None), *key)], position[key]
                logits.append(x_i @ qk_weight[head] @ x_j + x_i @ rel_weight[head, :, i, j])
                values.append(v_weight[j, own] @ x_j)
            weights = np.exp(np.array(logits) - max(logits))
            out[(b, own, *query)] = weights @ np.array(values) / weights.sum()
    return out


def maximum(x: Array, block_size: int) -> Array:
    """The largest value of each block, (B, O, ceil(H/block_size), ceil(W/block_size))."""
    height, width = x.shape[2:]
    out = np.zeros((*x.shape[:2], -(-height // block_size), -(-width // block_size)))
    for i, j in np.ndindex(out.shape[2:]):
        out[:, :, i, j] = x[
            :, :, i * block_size : (i + 1) * block_size, j * block_size : (j + 1) * block_size
        ].max((2, 3))
    return out
