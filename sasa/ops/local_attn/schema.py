"""The op as torch knows it: schemas, fake kernels, gradients and FLOPs.

The schemas are here, so that the op exists before anything is traced and even where nothing was compiled;
csrc/ adds implementations for tensors on a CPU.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from sasa.ops.local_attn.backends import reference
from sasa.ops.local_attn.flops import local_attention_flops
from sasa.ops.local_attn.spec import LocalAttentionSpec

_WINDOW = (
    "int num_heads, int kernel_rows, int kernel_cols, int dilation_rows, int dilation_cols, float scale, "
    "int pool"
)
_INPUTS = "Tensor q, Tensor? k, Tensor v, Tensor? rel_row, Tensor? rel_col"

torch.library.define(
    "sasa::local_attention",
    f"({_INPUTS}, {_WINDOW}, bool relu, bool channels_last, bool save_lse) -> (Tensor out, Tensor lse)",
)
torch.library.define(
    "sasa::local_attention_backward",
    f"(Tensor grad, {_INPUTS}, Tensor lse, {_WINDOW}, bool channels_last) "
    "-> (Tensor q, Tensor k, Tensor v, Tensor rel_row, Tensor rel_col)",
)


def call(
    q: Tensor,
    k: Tensor | None,
    v: Tensor,
    rel_row: Tensor | None,
    rel_col: Tensor | None,
    spec: LocalAttentionSpec,
    *,
    channels_last: bool,
) -> Tensor:
    """Call the registered op: q, k and v of one dtype, the embeddings contiguous in that of the arithmetic.

    The ReLU is part of the op where no gradient is wanted, and follows it where one is.
    """
    inputs = (q, k, v, rel_row, rel_col)
    grad = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in inputs)
    out: Tensor = torch.ops.sasa.local_attention(
        *inputs,
        spec.num_heads,
        *spec.kernel_size,
        *spec.dilation,
        spec.scale,
        spec.pool,
        spec.relu and not grad,
        channels_last,
        grad,
    )[0]
    return out.relu() if spec.relu and grad else out


def arithmetic_dtype(storage: torch.dtype) -> torch.dtype:
    """The dtype of sums, embeddings and the log-sum-exp for maps stored in a dtype."""
    return torch.float64 if storage == torch.float64 else torch.float32


def _empty(like: Tensor, size: tuple[int, ...], channels_last: bool) -> Tensor:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return like.new_empty(size).to(memory_format=layout)


@torch.library.register_fake("sasa::local_attention")
def _fake(
    q: Tensor,
    k: Tensor | None,
    v: Tensor,
    rel_row: Tensor | None,
    rel_col: Tensor | None,
    num_heads: int,
    kernel_rows: int,
    kernel_cols: int,
    dilation_rows: int,
    dilation_cols: int,
    scale: float,
    pool: int,
    relu: bool,
    channels_last: bool,
    save_lse: bool,
) -> tuple[Tensor, Tensor]:
    batch, _, height, width = q.shape
    # Written as a strided convolution's size is, so that torch.export sees that both are equal.
    size = (batch, v.shape[1], (height - 1) // pool + 1, (width - 1) // pool + 1)
    lse_size = (batch if save_lse else 0, num_heads, height, width)
    return _empty(v, size, channels_last), q.new_empty(lse_size, dtype=arithmetic_dtype(q.dtype))


@torch.library.register_fake("sasa::local_attention_backward")
def _fake_backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor | None,
    v: Tensor,
    rel_row: Tensor | None,
    rel_col: Tensor | None,
    lse: Tensor,
    num_heads: int,
    kernel_rows: int,
    kernel_cols: int,
    dilation_rows: int,
    dilation_cols: int,
    scale: float,
    pool: int,
    channels_last: bool,
) -> tuple[Tensor, ...]:
    batch, channels, height, width = q.shape
    half = channels // num_heads // 2
    return (
        _empty(q, (batch, channels, height, width), channels_last),
        _empty(q, (batch, 0 if k is None else channels, height, width), channels_last),
        _empty(v, tuple(v.shape), channels_last),
        lse.new_empty((0 if rel_row is None else num_heads, kernel_rows, half)),
        lse.new_empty((0 if rel_col is None else num_heads, kernel_cols, half)),
    )


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, _relu, channels_last, _save_lse = inputs
    ctx.save_for_backward(*tensors[:5], output[1])
    ctx.window, ctx.channels_last = tensors[5:], channels_last
    ctx.set_materialize_grads(False)  # that of the log-sum-exp is not wanted


def _backward(ctx: Any, grad: Tensor | None, _grad_lse: Tensor | None) -> tuple[Tensor | None, ...]:
    if grad is None:  # nobody wants the output's
        return (None,) * 15
    q, k, v, rel_row, rel_col, lse = ctx.saved_tensors
    gradients = torch.ops.sasa.local_attention_backward(
        grad, q, k, v, rel_row, rel_col, lse, *ctx.window, ctx.channels_last
    )
    grad_q, grad_k, grad_v, grad_row, grad_col = gradients
    return (
        grad_q,
        None if k is None else grad_k,
        grad_v,
        None if rel_row is None else grad_row,
        None if rel_col is None else grad_col,
        *[None] * 10,
    )


torch.library.register_autograd("sasa::local_attention", _backward, setup_context=_setup_context)


def _setup_second_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, _channels_last = inputs
    ctx.save_for_backward(*tensors[:6])
    ctx.window = tensors[7:]


def _second_backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
    """Differentiate the reference's gradients: rarely wanted, so right and not fast."""
    num_heads, rows, cols, dilation_rows, dilation_cols, scale, pool = ctx.window
    spec = LocalAttentionSpec(num_heads, (rows, cols), (dilation_rows, dilation_cols), scale, pool)
    with torch.enable_grad():
        tensors = [None if x is None else x.detach().requires_grad_() for x in ctx.saved_tensors]
        _, q, k, v, rel_row, rel_col = tensors
        out = reference.local_attention(q, k, v, rel_row, rel_col, spec)  # type: ignore[arg-type]
        given = [x for x in tensors if x is not None]
        first = torch.autograd.grad(out, given[1:], given[0], create_graph=True, materialize_grads=True)
        wanted = [g for g, x in zip(grads, tensors[1:], strict=True) if x is not None]
        second = iter(torch.autograd.grad(first, given, wanted, allow_unused=True))
    return (*[None if x is None else next(second) for x in tensors], None, *[None] * 8)


torch.library.register_autograd(
    "sasa::local_attention_backward", _second_backward, setup_context=_setup_second_context
)


@register_flop_formula(torch.ops.sasa.local_attention)
def _flops(
    q_shape: tuple[int, ...],
    k_shape: tuple[int, ...] | None,
    v_shape: tuple[int, ...],
    row_shape: tuple[int, ...] | None,
    col_shape: tuple[int, ...] | None,
    *window: Any,
    **kwargs: Any,
) -> int:
    num_heads, rows, cols, dilation_rows, dilation_cols, scale, pool, relu = window[:8]
    spec = LocalAttentionSpec(num_heads, (rows, cols), (dilation_rows, dilation_cols), scale, pool, relu)
    position = row_shape is not None or col_shape is not None
    return local_attention_flops(q_shape, v_shape, spec, content=k_shape is not None, position=position)


@register_flop_formula(torch.ops.sasa.local_attention_backward)
def _backward_flops(
    grad_shape: tuple[int, ...],
    q_shape: tuple[int, ...],
    k_shape: tuple[int, ...] | None,
    v_shape: tuple[int, ...],
    row_shape: tuple[int, ...] | None,
    col_shape: tuple[int, ...] | None,
    lse_shape: tuple[int, ...],
    *window: Any,
    **kwargs: Any,
) -> int:
    """Twice the forward pass, as torch counts a convolution's."""
    return 2 * _flops(q_shape, k_shape, v_shape, row_shape, col_shape, *window[:7], False)
