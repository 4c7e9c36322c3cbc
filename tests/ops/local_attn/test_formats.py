"""Dtypes, memory formats, strides and extreme shapes."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

import sasa

from .cases import LAYOUTS, Case, arrange, judge
from .runners import Runner

DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


@pytest.mark.parametrize("pool", [1, 2])
@pytest.mark.parametrize("k_layout", LAYOUTS[:2])
@pytest.mark.parametrize("q_layout", LAYOUTS)
def test_output_has_the_memory_format_of_q(runner: Runner, q_layout: str, k_layout: str, pool: int) -> None:
    q, k, v, row, col = runner.inputs(4, 5)
    q, k = arrange(q, q_layout), arrange(k, k_layout)
    out = runner(q, k, v, row, col, num_heads=2, kernel_size=3, pool=pool)
    assert out.shape == (2, 6, 4 // pool, -(-5 // pool))
    last = q_layout == "channels_last"
    assert out.is_contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


@pytest.mark.parametrize("layout", LAYOUTS[1:])
def test_strides_change_nothing(runner: Runner, layout: str) -> None:
    """The result is that of contiguous copies of the same numbers, forward and backward."""
    maps = [arrange(x, layout) for x in runner.inputs(4, 5)[:3]]
    row, col = (runner.randn(2, 2, 3).mT for _ in range(2))
    strided = [x.detach().requires_grad_() for x in (*maps, row, col)]
    compact = [x.detach().clone(memory_format=torch.contiguous_format) for x in strided]
    results = []
    for args in (strided, [x.requires_grad_() for x in compact]):
        out = runner(*args, num_heads=2, kernel_size=3, pool=2)
        results.append((out, *torch.autograd.grad(out.square().sum(), args)))
    for got, want in zip(*results, strict=True):
        runner.assert_close(got, want)


def test_inputs_are_left_alone(runner: Runner) -> None:
    args = runner.inputs(4, 5)
    copies = [x.clone() for x in args]
    runner(*args, num_heads=2, kernel_size=3, pool=2)
    assert all(torch.equal(x, copy) for x, copy in zip(args, copies, strict=True))


def test_output_is_no_view_of_an_input(runner: Runner) -> None:
    """Writing into it, as ReLU in place does, leaves v as it was."""
    q, k, v, *_ = runner.inputs(4, 5)
    before = v.clone()
    runner(q, k, v, num_heads=2, kernel_size=1).zero_()
    assert torch.equal(v, before)


@pytest.mark.parametrize("v_dtype", DTYPES)
@pytest.mark.parametrize("q_dtype", DTYPES)
def test_output_has_the_dtype_of_v(q_dtype: torch.dtype, v_dtype: torch.dtype) -> None:
    """The arguments' dtypes are free in the reference, and each gradient has its argument's."""
    runner = Runner("reference", "cpu", torch.float64, torch.Generator().manual_seed(0))
    q, k, v, row, col = runner.inputs(4, 5)
    dtypes = (q_dtype, q_dtype, v_dtype, torch.float32, v_dtype)
    args = [x.to(dtype) for x, dtype in zip((q, k, v, row, col), dtypes, strict=True)]
    exact = runner(*(x.double() for x in args), num_heads=2, kernel_size=3)
    args = [x.requires_grad_() for x in args]
    out = runner(*args, num_heads=2, kernel_size=3)
    assert out.dtype == v_dtype
    # Arithmetic is at least float32, and the result is rounded once.
    eps = max(torch.finfo(torch.float32).eps * 16, torch.finfo(v_dtype).eps / 2)
    atol = eps * 1.01 * exact.abs().max().item()
    torch.testing.assert_close(out.double(), exact, rtol=0, atol=atol)
    out.sum().backward()
    assert [x.grad.dtype for x in args] == list(dtypes)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_logits_beyond_half_precision(dtype: torch.dtype) -> None:
    """q·k of 16 · 100 · 100 = 160,000 overflows float16; in float32 the weights are exact."""
    q = torch.full((1, 16, 3, 3), 100.0, dtype=dtype)
    k, v = q.clone(), torch.arange(9.0).reshape(1, 1, 3, 3).to(dtype)
    k[:, :, 1, 1] = 101
    out = sasa.local_attention(q, k, v, num_heads=1, kernel_size=3)
    assert torch.equal(out, torch.full_like(out, 4))  # the center is in every window and wins


SHAPES: dict[str, dict[str, object]] = {
    "one_pixel": {"size": (1, 1)},
    "one_row": {"size": (1, 9)},
    "one_column": {"size": (9, 1)},
    "window_far_larger_than_map": {"size": (2, 3), "kernel": (31, 31)},
    "dilation_jumps_over_the_map": {"size": (3, 3), "dilation": (4, 7)},
    "long_window": {"size": (5, 5), "kernel": (1, 9)},
    "wide_heads": {"size": (3, 3), "head_dim": 64, "value_head_dim": 48},
    "many_heads": {"size": (3, 3), "heads": 16, "head_dim": 2, "value_head_dim": 1},
    "odd_width": {"size": (3, 4), "head_dim": 5, "given": ("k",)},
    "larger_map": {"size": (17, 33), "heads": 1, "batch": 1, "kernel": (5, 3)},
}


@pytest.mark.parametrize("name", SHAPES)
def test_shape(runner: Runner, name: str) -> None:
    plain = {"seed": 0, "batch": 2, "heads": 2, "head_dim": 4, "value_head_dim": 3, "size": (4, 5)}
    plain |= {"kernel": (3, 3), "dilation": (1, 1), "scale": 0.5, "pool": 2, "magnitude": 1.0}
    plain |= {"given": ("k", "rel_row", "rel_col"), "layouts": ("contiguous",) * 3}
    plain |= {"dtype": runner.dtype, "rel_dtype": runner.dtype}
    case = Case(**(plain | SHAPES[name]))  # type: ignore[arg-type]
    op = partial(sasa.local_attention, backend=runner.backend)
    errors = judge(op, case, device=runner.device, gradients=True)
    assert all(error <= 1 for error in errors.values()), errors


@pytest.mark.parametrize("pool", [1, 2])
def test_empty_batch(runner: Runner, pool: int) -> None:
    """Nothing in, nothing out, and gradients of the right shapes; the embeddings' are zero."""
    args = [x.requires_grad_() for x in runner.inputs(5, 4, batch=0)]
    out = runner(*args, num_heads=2, kernel_size=3, pool=pool)
    assert out.shape == (0, 6, -(-5 // pool), 4 // pool)
    out.sum().backward()
    assert all(x.grad.shape == x.shape for x in args)
    assert not any(x.grad.any() for x in args[3:])


def test_list_for_a_pair(runner: Runner) -> None:
    """Configuration files give lists."""
    args = runner.inputs(4, 5, kernel=(3, 5))
    pairs = runner(*args, num_heads=2, kernel_size=(3, 5), dilation=(1, 2))
    lists = runner(*args, num_heads=2, kernel_size=[3, 5], dilation=[1, 2])
    assert torch.equal(pairs, lists)


def test_defaults() -> None:
    """A 7 × 7 window, no dilation, the paper's scale of 1, no pooling, any backend."""
    runner = Runner("auto", "cpu", torch.float32, torch.Generator().manual_seed(0))
    args: tuple[Tensor, ...] = runner.inputs(8, 9, kernel=(7, 7))
    explicit = {"kernel_size": (7, 7), "dilation": (1, 1), "scale": 1.0, "pool": 1}
    assert torch.equal(sasa.local_attention(*args, num_heads=2), runner(*args, num_heads=2, **explicit))
