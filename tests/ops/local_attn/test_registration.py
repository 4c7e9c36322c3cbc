"""The registered ops behind the fused backends do what their schemas, fake kernels and gradients say."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.library import opcheck
from torch.profiler import profile

from sasa.ops.dtypes import arithmetic_dtype

from ..kernels import needs_kernels

ops = torch.ops.sasa

pytestmark = [
    needs_kernels,
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf"),  # by opcheck
]

# Shape of q, channels of v, heads, then options.
CASES: dict[str, tuple[tuple[int, ...], int, int, dict[str, Any]]] = {
    "pooled": ((2, 8, 5, 4), 6, 2, {"pool": 2}),
    "channels_last": ((1, 4, 3, 5), 2, 1, {"channels_last": True, "dtype": torch.bfloat16}),
    "channels_last_of_one_channel": ((2, 2, 3, 4), 1, 1, {"channels_last": True, "without": ["row"]}),
    "one_pixel_no_k": ((2, 8, 1, 1), 6, 2, {"channels_last": True, "without": ["k"], "dtype": torch.float64}),
    "k_alone": ((1, 3, 4, 3), 3, 3, {"without": ["row", "col"]}),
    "empty": ((0, 8, 3, 4), 6, 2, {"pool": 2}),
}


def arguments(
    shape: tuple[int, ...],
    values: int,
    heads: int,
    *,
    dtype: torch.dtype = torch.float32,
    channels_last: bool = False,
    pool: int = 1,
    without: tuple[str, ...] | list[str] = (),
    gradients: bool = True,
) -> tuple[Any, ...]:
    """Those of sasa::local_attention."""
    generator = torch.Generator().manual_seed(0)

    def draw(dtype: torch.dtype, *size: int) -> torch.Tensor:
        x = torch.randn(size, generator=generator).to(dtype)
        if channels_last and x.ndim == 4:
            x = x.to(memory_format=torch.channels_last)
        return x.requires_grad_(gradients)

    arithmetic = arithmetic_dtype(dtype)
    half = shape[1] // heads // 2
    tensors = {
        "q": draw(dtype, *shape),
        "k": draw(dtype, *shape),
        "v": draw(dtype, shape[0], values, *shape[2:]),
        "row": draw(arithmetic, heads, 1, half),
        "col": draw(arithmetic, heads, 3, half),
    }
    given = [None if name in without else x for name, x in tensors.items()]
    return (*given, heads, 1, 3, 1, 2, 0.7, pool, False, channels_last, gradients)


@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_forward(name: str, gradients: bool) -> None:
    shape, values, heads, options = CASES[name]
    opcheck(ops.local_attention.default, arguments(shape, values, heads, **options, gradients=gradients))


@pytest.mark.parametrize("name", CASES)
def test_backward(name: str) -> None:
    """With second derivatives."""
    shape, values, heads, options = CASES[name]
    args = arguments(shape, values, heads, **options)
    out, lse = ops.local_attention(*args)
    *rest, _relu, channels_last, _save_lse = args
    grad = torch.ones_like(out).requires_grad_()
    opcheck(
        ops.local_attention_backward.default,
        (grad, *rest[:5], lse.detach(), *rest[5:], channels_last),
    )


def test_no_gradient_is_made_for_the_log_sum_exp() -> None:
    out, _lse = ops.local_attention(*arguments(*CASES["pooled"][:3])[:-1], True)
    with profile() as profiled:
        out.backward(torch.ones_like(out))
    made = [event.key for event in profiled.key_averages()]
    assert "sasa::local_attention_backward" in made
    assert "aten::zeros" not in made


def test_without_a_gradient_of_the_output_there_is_none() -> None:
    class Unwanted(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, *grads: torch.Tensor) -> None:
            return None

    q, *rest = arguments(*CASES["pooled"][:3])
    out, _lse = ops.local_attention(q, *rest[:-1], True)
    assert torch.autograd.grad(Unwanted.apply(out).sum(), q, allow_unused=True) == (None,)
