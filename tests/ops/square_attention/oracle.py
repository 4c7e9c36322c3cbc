"""Attention inside squares in loops, from its equations: NumPy in float64, nothing of `sasa`."""

from __future__ import annotations

import itertools

import numpy as np

Array = np.ndarray


def square_attention(x: Array, forms: Array, relative: Array, matrices: Array, block: int) -> Array:
    """x (B, C, H, W), forms (N, C, C), relative (N, C, P, P), matrices (P, O, C) to (B, O, H, W)."""
    batch, _, height, width = x.shape
    heads, outputs = len(forms), matrices.shape[1]
    out = np.zeros((batch, outputs, height, width))
    for b, top, left in itertools.product(range(batch), range(0, height, block), range(0, width, block)):
        rows, cols = range(top, min(top + block, height)), range(left, min(left + block, width))
        pixels = list(itertools.product(rows, cols))
        position = {(r, c): (r - top) * block + c - left for r, c in pixels}
        for head, query in itertools.product(range(heads), pixels):
            own = slice(head * outputs // heads, (head + 1) * outputs // heads)
            x_i, i = x[(b, slice(None), *query)], position[query]
            logits, values = [], []
            for key in pixels:
                x_j, j = x[(b, slice(None), *key)], position[key]
                logits.append(x_i @ forms[head] @ x_j + x_i @ relative[head, :, i, j])
                values.append(matrices[j, own] @ x_j)
            weights = np.exp(np.array(logits) - max(logits))
            out[(b, own, *query)] = weights @ np.array(values) / weights.sum()
    return out


def maximum(x: Array, block: int) -> Array:
    """The largest value of each square, (B, O, ceil(H/block), ceil(W/block))."""
    height, width = x.shape[2:]
    out = np.zeros((*x.shape[:2], -(-height // block), -(-width // block)))
    for i, j in np.ndindex(out.shape[2:]):
        out[:, :, i, j] = x[:, :, i * block : (i + 1) * block, j * block : (j + 1) * block].max((2, 3))
    return out
