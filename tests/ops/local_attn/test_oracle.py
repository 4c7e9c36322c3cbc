"""The oracle itself: a case worked by hand, and its gradients against finite differences."""

from __future__ import annotations

import math

import numpy as np

from . import oracle
from .oracle import Window


def test_two_pixels_by_hand() -> None:
    """Pixel 0 sees offsets 0 and +1, pixel 1 sees −1 and 0; D = 2, one head."""
    q = np.array([[1.0, 2.0], [3.0, -1.0]]).reshape(1, 2, 1, 2)  # queries (1, 3) and (2, −1)
    k = np.array([[0.5, 0.0], [0.0, 1.0]]).reshape(1, 2, 1, 2)  # keys (0.5, 0) and (0, 1)
    v = np.array([10.0, 20.0]).reshape(1, 1, 1, 2)
    row = np.array([[[7.0], [0.1], [7.0]]])  # only offset 0 lies inside
    col = np.array([[[-1.0], [0.0], [0.25]]])
    # Twice the sums: pixel 0: 0.5 + 0.1 + 0 and 3 + 0.1 + 3/4; pixel 1: 1 + 0.2 + 1 and −1 + 0.2 + 0.
    expected = []
    for left, right in ((1.2, 7.7), (4.4, -1.6)):
        weight = math.exp(left) / (math.exp(left) + math.exp(right))
        expected.append(10 * weight + 20 * (1 - weight))
    out = oracle.forward(q, k, v, row, col, Window(heads=1, kernel=(3, 3), scale=2.0))
    np.testing.assert_allclose(out.ravel(), expected, rtol=0, atol=1e-13)


def test_uneven_blocks_are_averaged_over_the_pixels_they_have() -> None:
    v = np.arange(9.0).reshape(1, 1, 3, 3)
    out = oracle.forward(v, v, v, None, None, Window(heads=1, kernel=(1, 1), pool=2))
    assert out.tolist() == [[[[2.0, 3.5], [6.5, 8.0]]]]


def test_negative_means_become_zero() -> None:
    """Of −1 and 3 the mean is 1, where the mean of max(0, ·) would be 1.5."""
    v = np.array([[-1.0, 3.0, -5.0, 3.0]]).reshape(1, 1, 1, 4)
    window = Window(heads=1, kernel=(1, 1), pool=2, relu=True)
    assert oracle.forward(v, v, v, None, None, window).tolist() == [[[[1.0, 0.0]]]]
    upstream = np.array([[[[1.0, 1.0]]]])
    assert oracle.backward(upstream, v, v, v, None, None, window).v.tolist() == [[[[0.5, 0.5, 0, 0]]]]


def test_gradients_are_the_finite_differences() -> None:
    """In a random direction for each argument; the error of a central difference is O(step²)."""
    rng = np.random.default_rng(0)
    window = Window(heads=2, kernel=(3, 5), dilation=(2, 1), scale=0.7, pool=2)
    shapes = [(2, 8, 5, 3), (2, 8, 5, 3), (2, 6, 5, 3), (2, 3, 2), (2, 5, 2)]
    args = [rng.standard_normal(shape) for shape in shapes]
    grad = rng.standard_normal((2, 6, 3, 2))
    gradients = oracle.backward(grad, *args, window)
    for index, gradient in enumerate(gradients):
        direction = rng.standard_normal(shapes[index])
        step = 1e-5
        ends = []
        for sign in (1, -1):
            moved = [x + sign * step * direction if n == index else x for n, x in enumerate(args)]
            ends.append((grad * oracle.forward(*moved, window)).sum())
        slope = (ends[0] - ends[1]) / (2 * step)
        np.testing.assert_allclose((gradient * direction).sum(), slope, rtol=0, atol=1e-7)
