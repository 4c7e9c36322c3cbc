"""Local attention and its gradients in loops, from the equations (Ramachandran et al., 2019, §2.2).

NumPy in float64. It shares nothing with `sasa`, so that the two cannot be wrong together.

Shapes: q, k (B, N·D, H, W); v (B, N·Dv, H, W); row (N, kh, D/2); col (N, kw, D/2).
k, row and col may be None.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import numpy as np

Array = np.ndarray


class Window(NamedTuple):
    """The form of the window and what is done around it."""

    heads: int
    kernel: tuple[int, int]
    dilation: tuple[int, int] = (1, 1)
    scale: float = 1.0
    pool: int = 1
    relu: bool = False


class Place(NamedTuple):
    """One position of a window: its index in the embeddings and its pixel."""

    a: int
    b: int
    y: int
    x: int


class Gradients(NamedTuple):
    """Of Σ grad · output; None where there was no argument."""

    q: Array
    k: Array | None
    v: Array
    row: Array | None
    col: Array | None


def forward(
    q: Array, k: Array | None, v: Array, row: Array | None, col: Array | None, window: Window
) -> Array:
    """y_ij = Σ_ab softmax_ab(scale · (q_ij·k_ab + q_ij·r_ab)) v_ab, the mean of 2 × 2 blocks, max(0, ·)."""
    out = np.zeros(v.shape)
    for image, head, i, j in _queries(q, window):
        values = _channels(head, v, window)
        places, weights = _attention(q, k, row, col, window, image, head, i, j)
        for place, weight in zip(places, weights, strict=True):
            out[image, values, i, j] += weight * v[image, values, place.y, place.x]
    out = _average(out) if window.pool == 2 else out
    return np.maximum(0, out) if window.relu else out


def backward(
    grad: Array,
    q: Array,
    k: Array | None,
    v: Array,
    row: Array | None,
    col: Array | None,
    window: Window,
) -> Gradients:
    """The gradients of Σ grad · forward(...) for every argument."""
    if window.relu:
        grad = grad * (forward(q, k, v, row, col, window) > 0)
    if window.pool == 2:
        grad = _average_backward(grad, v.shape)
    dq, dv = np.zeros(q.shape), np.zeros(v.shape)
    dk = np.zeros(q.shape)
    half = q.shape[1] // window.heads // 2
    drow = np.zeros((window.heads, window.kernel[0], half))
    dcol = np.zeros((window.heads, window.kernel[1], half))
    for image, head, i, j in _queries(q, window):
        width, values = _channels(head, q, window), _channels(head, v, window)
        places, weights = _attention(q, k, row, col, window, image, head, i, j)
        query, g = q[image, width, i, j], grad[image, values, i, j]
        dweights = np.array([g @ v[image, values, p.y, p.x] for p in places])
        dlogits = weights * (dweights - weights @ dweights) * window.scale
        for place, weight, dlogit in zip(places, weights, dlogits, strict=True):
            dv[image, values, place.y, place.x] += weight * g
            dq[image, width, i, j] += dlogit * _relative(row, col, head, place, len(query))
            if k is not None:
                dq[image, width, i, j] += dlogit * k[image, width, place.y, place.x]
                dk[image, width, place.y, place.x] += dlogit * query
            if row is not None:
                drow[head, place.a] += dlogit * query[:half]
            if col is not None:
                dcol[head, place.b] += dlogit * query[half:]
    return Gradients(
        q=dq,
        k=None if k is None else dk,
        v=dv,
        row=None if row is None else drow,
        col=None if col is None else dcol,
    )


def places_inside(height: int, width: int, window: Window, i: int, j: int) -> list[Place]:
    """The positions of the window around (i, j) that lie inside the map."""
    (kh, kw), (dh, dw) = window.kernel, window.dilation
    places = []
    for a in range(kh):
        for b in range(kw):
            y, x = i + (a - kh // 2) * dh, j + (b - kw // 2) * dw
            if 0 <= y < height and 0 <= x < width:
                places.append(Place(a, b, y, x))
    return places


def _queries(q: Array, window: Window) -> Iterator[tuple[int, int, int, int]]:
    """Every (image, head, i, j)."""
    batch, _, height, width = q.shape
    return product(range(batch), range(window.heads), range(height), range(width))


def _channels(head: int, x: Array, window: Window) -> slice:
    """The channels of x that the head owns."""
    width = x.shape[1] // window.heads
    return slice(head * width, (head + 1) * width)


def _attention(
    q: Array,
    k: Array | None,
    row: Array | None,
    col: Array | None,
    window: Window,
    image: int,
    head: int,
    i: int,
    j: int,
) -> tuple[list[Place], Array]:
    """The places that one query sees and their weights."""
    channels = _channels(head, q, window)
    query = q[image, channels, i, j]
    places = places_inside(*q.shape[2:], window, i, j)
    logits = []
    for place in places:
        logit = query @ _relative(row, col, head, place, len(query))
        if k is not None:
            logit += query @ k[image, channels, place.y, place.x]
        logits.append(window.scale * logit)
    exponentials = np.exp(np.array(logits) - max(logits))
    return places, exponentials / exponentials.sum()


def _relative(row: Array | None, col: Array | None, head: int, place: Place, width: int) -> Array:
    """r_ab: the row offset's embedding, then the column offset's."""
    r = np.zeros(width)
    if row is not None:
        r[: width // 2] = row[head, place.a]
    if col is not None:
        r[width // 2 :] = col[head, place.b]
    return r


def _blocks(height: int, width: int) -> Iterator[tuple[int, int, list[tuple[int, int]]]]:
    """The 2 × 2 blocks, each with the pixels that it has: fewer than four at an odd edge."""
    for i in range((height + 1) // 2):
        for j in range((width + 1) // 2):
            rows = [y for y in (2 * i, 2 * i + 1) if y < height]
            cols = [x for x in (2 * j, 2 * j + 1) if x < width]
            yield i, j, list(product(rows, cols))


def _average(out: Array) -> Array:
    batch, channels, height, width = out.shape
    pooled = np.zeros((batch, channels, (height + 1) // 2, (width + 1) // 2))
    for i, j, pixels in _blocks(height, width):
        for y, x in pixels:
            pooled[:, :, i, j] += out[:, :, y, x] / len(pixels)
    return pooled


def _average_backward(grad: Array, shape: tuple[int, ...]) -> Array:
    spread = np.zeros(shape)
    for i, j, pixels in _blocks(*shape[2:]):
        for y, x in pixels:
            spread[:, :, y, x] = grad[:, :, i, j] / len(pixels)
    return spread
