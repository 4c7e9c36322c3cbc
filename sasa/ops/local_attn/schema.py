"""The op as torch knows it: schemas, fake kernels, the first derivative and FLOPs.

The schemas are here, so that the op exists before anything is traced and even if nothing was compiled; csrc/
and backends/triton/ add implementations.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from sasa.ops.dtypes import arithmetic_dtype
from sasa.ops.gradients import wants_gradient
from sasa.ops.local_attn.flops import local_attention_flops
from sasa.ops.local_attn.inputs import LocalAttentionInputs
from sasa.ops.local_attn.spec import LocalAttentionSpec
from sasa.ops.memory_format import empty_map, is_channels_last

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


def call(inputs: LocalAttentionInputs) -> Tensor:
    """Call the registered op for q, k and v of one dtype.

    The ReLU is part of the op if no gradient is wanted, and follows it otherwise.
    """
    inputs = in_arithmetic(inputs)
    gradient = wants_gradient(*inputs.tensors)
    relu = inputs.spec.relu
    out: Tensor = torch.ops.sasa.local_attention(
        *inputs.arguments, relu and not gradient, is_channels_last(inputs.q), gradient
    )[0]
    return out.relu() if relu and gradient else out


def in_arithmetic(inputs: LocalAttentionInputs) -> LocalAttentionInputs:
    """The inputs with embeddings as the kernels take them: contiguous and in the dtype of the sums."""
    dtype = arithmetic_dtype(inputs.q.dtype)
    row, col = (None if x is None else x.to(dtype).contiguous() for x in (inputs.rel_row, inputs.rel_col))
    return LocalAttentionInputs(inputs.q, inputs.k, inputs.v, row, col, inputs.spec)


@torch.library.register_fake("sasa::local_attention")
def _fake(*arguments: Any) -> tuple[Tensor, Tensor]:
    *given, channels_last, save_lse = arguments
    inputs = LocalAttentionInputs.of_arguments(*given)
    batch, _, height, width = inputs.q.shape
    lse_size = (batch if save_lse else 0, inputs.spec.num_heads, height, width)
    return (
        empty_map(inputs.v, inputs.output_shape, channels_last),
        inputs.q.new_empty(lse_size, dtype=arithmetic_dtype(inputs.q.dtype)),
    )


@torch.library.register_fake("sasa::local_attention_backward")
def _fake_backward(grad: Tensor, *arguments: Any) -> tuple[Tensor, ...]:
    *tensors, lse = arguments[:6]
    inputs, channels_last = LocalAttentionInputs.of_arguments(*tensors, *arguments[6:-1]), arguments[-1]
    batch, channels, height, width = inputs.q.shape
    return (
        empty_map(inputs.q, (batch, channels, height, width), channels_last),
        empty_map(inputs.q, (batch, 0 if inputs.k is None else channels, height, width), channels_last),
        empty_map(inputs.v, tuple(inputs.v.shape), channels_last),
        *(
            lse.new_empty((0 if x is None else inputs.spec.num_heads, taps, inputs.head_dim // 2))
            for x, taps in zip((inputs.rel_row, inputs.rel_col), inputs.spec.kernel_size, strict=True)
        ),
    )


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *arguments, _relu, ctx.channels_last, _save_lse = inputs
    ctx.save_for_backward(*arguments[:5], output[1])
    ctx.window = arguments[5:]
    ctx.set_materialize_grads(False)  # the gradient of the log-sum-exp is not used


def _backward(ctx: Any, grad: Tensor | None, _grad_lse: Tensor | None) -> tuple[Tensor | None, ...]:
    if grad is None:  # the gradient of the output is not needed
        return (None,) * 15
    saved = ctx.saved_tensors  # only once: gradient checkpointing computes them again
    gradients = torch.ops.sasa.local_attention_backward(grad, *saved, *ctx.window, ctx.channels_last)
    return (*(None if x is None else g for x, g in zip(saved[:5], gradients, strict=True)), *[None] * 10)


torch.library.register_autograd("sasa::local_attention", _backward, setup_context=_setup_context)


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
    spec = LocalAttentionSpec.of_arguments(*window[:8])
    position = row_shape is not None or col_shape is not None
    return local_attention_flops(q_shape, v_shape, spec, content=k_shape is not None, position=position)


@register_flop_formula(torch.ops.sasa.local_attention_backward)
def _backward_flops(grad_shape: tuple[int, ...], *shapes_and_window: Any, **kwargs: Any) -> int:
    """Twice the forward pass, as torch counts a convolution's."""
    *shapes, _lse_shape = shapes_and_window[:6]
    return 2 * _flops(*shapes, *shapes_and_window[6:13], False)
