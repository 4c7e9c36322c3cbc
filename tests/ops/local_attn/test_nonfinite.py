"""Numbers from outside never enter, extreme logits stay finite, and a NaN reaches only whom it must."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from .runners import Runner

NAN, INF = float("nan"), float("inf")
SIZE, KERNEL, DILATION = (7, 8), (3, 5), (2, 1)
PIXEL = (1, 3)
WINDOW: dict[str, Any] = {"num_heads": 2, "kernel_size": KERNEL, "dilation": DILATION}


def canary(x: Tensor) -> Tensor:
    """The same numbers with NaN before, behind and between the rows."""
    shape = [side + 2 for side in x.shape]
    inner = tuple(slice(1, -1) for _ in shape)
    larger = torch.full(shape, NAN).to(x)
    larger[inner] = x
    return larger[inner]


def near(pixel: tuple[int, int], pool: int = 1) -> Tensor:
    """Which outputs have a window that holds the pixel: bool (H, W)."""
    inside = []
    for side, at, k, d in zip(SIZE, pixel, KERNEL, DILATION, strict=True):
        steps = torch.arange(side) - at
        inside.append((steps % d == 0) & (steps.abs() <= k // 2 * d))
    return blocks(inside[0][:, None] & inside[1], pool)


def only(pixel: tuple[int, int], pool: int = 1) -> Tensor:
    """The output at the pixel: bool (H, W)."""
    marked = torch.zeros(SIZE, dtype=torch.bool)
    marked[pixel] = True
    return blocks(marked, pool)


def blocks(marked: Tensor, pool: int) -> Tensor:
    """Which 2 × 2 blocks hold a marked pixel."""
    if pool == 1:
        return marked
    return torch.nn.functional.max_pool2d(marked[None].float(), 2, ceil_mode=True)[0] > 0


def assert_reached(out: Tensor, channels: slice, where: Tensor) -> None:
    """Non-finite in these channels of image 0 at these pixels, and finite everywhere else."""
    expected = torch.zeros(out.shape, dtype=torch.bool)
    expected[0, channels] = where
    assert torch.equal(~out.isfinite().cpu(), expected)


@pytest.mark.parametrize("without", [None, "k", "embeddings"])
@pytest.mark.parametrize("pool", [1, 2])
@pytest.mark.parametrize("size", [(1, 1), (3, 2), (7, 9), (16, 17)])
def test_surroundings_are_never_read(
    runner: Runner, size: tuple[int, int], pool: int, without: str | None
) -> None:
    """Tensors inside larger ones full of NaN give the same results, forward and backward."""
    args: list[Tensor | None] = list(runner.inputs(*size, kernel=KERNEL))
    for index in {None: (), "k": (1,), "embeddings": (3, 4)}[without]:
        args[index] = None
    results = []
    for wrap in (torch.clone, canary):
        leaves = [x if x is None else wrap(x).detach().requires_grad_() for x in args]
        out = runner(*leaves, **WINDOW, pool=pool)
        upstream = wrap(out.detach().cos())
        given = [x for x in leaves if x is not None]
        results.append((out, *torch.autograd.grad(out, given, upstream)))
    for plain, inside_nan in zip(*results, strict=True):
        assert inside_nan.isfinite().all()
        runner.assert_close(inside_nan, plain)


@pytest.mark.parametrize("sign", [1, -1])
def test_large_logits(runner: Runner, sign: int) -> None:
    """±1e4: the softmax is one-hot where the logits differ, and nothing overflows."""
    q, k, v, *_ = runner.inputs(*SIZE)
    q, k = torch.ones_like(q), torch.zeros_like(k)
    k[:, :, 2, 4] = sign * 2500.0
    args = [x.requires_grad_() for x in (q, k, v)]
    out = runner(*args, num_heads=2, kernel_size=3)
    window = v[:, :, 1:4, 3:6].flatten(2)
    others = torch.tensor([n for n in range(9) if n != 4], device=v.device)
    want = window[..., 4] if sign > 0 else window[..., others].mean(-1)
    runner.assert_close(out[:, :, 2, 4], want)
    out.sum().backward()
    assert all(x.grad.isfinite().all() for x in args)


@pytest.mark.parametrize("level", [0.0, 1e4, -1e4])
def test_equal_logits(runner: Runner, level: float) -> None:
    """The mean of the window, whatever the level."""
    q, k, v, *_ = runner.inputs(*SIZE)
    q, k = torch.ones_like(q), torch.full_like(k, level / 4)
    args = [x.requires_grad_() for x in (q, k, v)]
    out = runner(*args, num_heads=2, kernel_size=3)
    mean = torch.nn.functional.avg_pool2d(v, 3, stride=1, padding=1, count_include_pad=False)
    runner.assert_close(out, mean)
    out.sum().backward()
    assert all(x.grad.isfinite().all() for x in args)


@pytest.mark.parametrize("pool", [1, 2])
@pytest.mark.parametrize("pixel", [PIXEL, (0, 0), (6, 7)])
@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_v(runner: Runner, value: float, pixel: tuple[int, int], pool: int) -> None:
    """One channel of one pixel: that channel wherever a window holds the pixel."""
    q, k, v, row, col = runner.inputs(*SIZE, kernel=KERNEL)
    v[(0, 4, *pixel)] = value
    out = runner(q, k, v, row, col, **WINDOW, pool=pool)
    assert_reached(out, slice(4, 5), near(pixel, pool))


@pytest.mark.parametrize("pool", [1, 2])
@pytest.mark.parametrize("columns", [9, 11])
def test_v_beside_a_wide_window(runner: Runner, columns: int, pool: int) -> None:
    """Kernels that pass over several columns at once, and over more than there are, take none of those."""
    q, k, v, row, col = runner.inputs(2, 16, kernel=(3, columns))
    v[0, 4, 0, 7] = INF
    out = runner(q, k, v, row, col, num_heads=2, kernel_size=(3, columns), pool=pool)
    reached = (torch.arange(16) - 7).abs() <= columns // 2
    assert_reached(out, slice(4, 5), blocks(reached.expand(2, 16), pool))


@pytest.mark.parametrize("pool", [1, 2])
@pytest.mark.parametrize("pixel", [PIXEL, (0, 0), (6, 7)])
def test_nan_in_k(runner: Runner, pixel: tuple[int, int], pool: int) -> None:
    """The whole softmax of its head, so all its channels, wherever a window holds the pixel."""
    q, k, v, row, col = runner.inputs(*SIZE, kernel=KERNEL)
    k[(0, 5, *pixel)] = NAN
    out = runner(q, k, v, row, col, **WINDOW, pool=pool)
    assert_reached(out, slice(3, 6), near(pixel, pool))


def test_infinity_in_k(runner: Runner) -> None:
    """A logit of +∞ has no softmax; one of −∞ takes its pixel out of every window, exactly."""
    q, k, v, row, col = runner.inputs(*SIZE, kernel=KERNEL)
    q[:, 5] = q[:, 5].abs() + 0.1
    k[(0, 5, *PIXEL)] = INF
    assert_reached(runner(q, k, v, row, col, **WINDOW), slice(3, 6), near(PIXEL))
    k[(0, 5, *PIXEL)] = -INF
    out = runner(q, k, v, row, col, **WINDOW)
    assert out.isfinite().all()
    v[(0, slice(3, 6), *PIXEL)] += 100
    assert torch.equal(runner(q, k, v, row, col, **WINDOW), out)


@pytest.mark.parametrize("pool", [1, 2])
@pytest.mark.parametrize("pixel", [PIXEL, (0, 0), (6, 7)])
@pytest.mark.parametrize("value", [NAN, INF])
def test_q(runner: Runner, value: float, pixel: tuple[int, int], pool: int) -> None:
    """Its head at its own pixel; at ∞, as some key has the sign that makes the logit +∞."""
    q, k, v, row, col = runner.inputs(*SIZE, kernel=KERNEL)
    q[(0, 2, *pixel)] = value
    out = runner(q, k, v, row, col, **WINDOW, pool=pool)
    assert_reached(out, slice(0, 3), only(pixel, pool))


@pytest.mark.parametrize("tap", [0, 1, 2])
def test_nan_in_rel_row(runner: Runner, tap: int) -> None:
    """Its head, wherever that row of the window lies inside the map."""
    q, k, v, row, col = runner.inputs(*SIZE, batch=1, kernel=KERNEL)
    row[1, tap, 0] = NAN
    neighbor = torch.arange(SIZE[0]) + (tap - 1) * DILATION[0]
    inside = (neighbor >= 0) & (neighbor < SIZE[0])
    out = runner(q, k, v, row, col, **WINDOW)
    assert_reached(out, slice(3, 6), inside[:, None].expand(SIZE))


@pytest.mark.parametrize("tap", range(5))
def test_nan_in_rel_col(runner: Runner, tap: int) -> None:
    """Its head, wherever that column of the window lies inside the map."""
    q, k, v, row, col = runner.inputs(*SIZE, batch=1, kernel=KERNEL)
    col[0, tap, 1] = NAN
    neighbor = torch.arange(SIZE[1]) + (tap - 2) * DILATION[1]
    inside = (neighbor >= 0) & (neighbor < SIZE[1])
    out = runner(q, k, v, row, col, **WINDOW)
    assert_reached(out, slice(0, 3), inside[None, :].expand(SIZE))


@pytest.mark.parametrize("pixel", [PIXEL, (0, 0), (6, 7)])
def test_nan_in_the_upstream_gradient(runner: Runner, pixel: tuple[int, int]) -> None:
    """dq at the pixel, dk and dv in its window, the embeddings of its head that it uses; no others."""
    args = [x.requires_grad_() for x in runner.inputs(*SIZE, kernel=KERNEL)]
    out = runner(*args, **WINDOW)
    upstream = torch.ones_like(out)
    upstream[(0, 4, *pixel)] = NAN
    dq, dk, dv, drow, dcol = torch.autograd.grad(out, args, upstream)
    assert_reached(dq, slice(4, 8), only(pixel))
    assert_reached(dk, slice(4, 8), near(pixel))
    assert_reached(dv, slice(4, 5), near(pixel))
    for gradient, side, at, d in zip((drow, dcol), SIZE, pixel, DILATION, strict=True):
        taps = torch.arange(gradient.shape[1]) - gradient.shape[1] // 2
        used = (at + taps * d >= 0) & (at + taps * d < side)
        reached = ~gradient.isfinite().cpu()
        assert not reached[0].any()
        assert torch.equal(reached[1], used[:, None].expand_as(reached[1]))
