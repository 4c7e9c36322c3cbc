"""The ops as torch knows them: schemas, fake kernels, the first derivative and FLOPs.

The schemas are here, so that the ops exist before anything is traced and even if nothing was compiled; csrc/
and backends/triton/ add implementations.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from sasa.ops.block_attn.flops import block_attention_flops
from sasa.ops.block_attn.inputs import BlockAttentionInputs
from sasa.ops.dtypes import arithmetic_dtype
from sasa.ops.memory_format import empty_map, is_channels_last

_INPUTS = "Tensor x, Tensor qk_weight, Tensor rel_weight, Tensor v_weight, int block_size"

torch.library.define("sasa::block_attention", f"({_INPUTS}, bool max_pool, bool channels_last) -> Tensor")
torch.library.define(
    "sasa::block_attention_statistics",
    f"({_INPUTS}, bool channels_last) -> (Tensor maximum, Tensor mean, Tensor var)",
)
torch.library.define(
    "sasa::block_attention_backward",
    f"(Tensor grad, Tensor? grad_mean, Tensor? grad_var, Tensor? mean, {_INPUTS}, bool max_pool)"
    " -> (Tensor qk_weight, Tensor rel_weight, Tensor v_weight)",
)


def call(inputs: BlockAttentionInputs) -> Tensor:
    """Call the registered op; the weights are cast to the dtype of the sums."""
    *tensors, channels_last = _in_arithmetic(inputs)
    out: Tensor = torch.ops.sasa.block_attention(*tensors, inputs.block_size, inputs.max_pool, channels_last)
    return out


def call_statistics(inputs: BlockAttentionInputs) -> tuple[Tensor, Tensor, Tensor]:
    """Call the registered op of maxima and statistics, as `call`."""
    *tensors, channels_last = _in_arithmetic(inputs)
    out: tuple[Tensor, Tensor, Tensor] = torch.ops.sasa.block_attention_statistics(
        *tensors, inputs.block_size, channels_last
    )
    return out


def _in_arithmetic(inputs: BlockAttentionInputs) -> tuple[Any, ...]:
    """The tensors with weights as the kernels take them, and whether x is channels-last."""
    x, dtype = inputs.x, arithmetic_dtype(inputs.x.dtype)
    return (x, *(w.to(dtype).contiguous() for w in inputs.weights.values()), is_channels_last(x))


@torch.library.register_fake("sasa::block_attention")
def _fake(*arguments: Any) -> Tensor:
    *given, channels_last = arguments
    inputs = BlockAttentionInputs(*given)
    return empty_map(inputs.x, inputs.output_shape, channels_last)


@torch.library.register_fake("sasa::block_attention_statistics")
def _fake_statistics(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    x, qk_weight, rel_weight, v_weight, block_size, channels_last = arguments
    inputs = BlockAttentionInputs(x, qk_weight, rel_weight, v_weight, block_size, max_pool=True)
    out = empty_map(inputs.x, inputs.output_shape, channels_last)
    return out, inputs.qk_weight.new_empty(out.shape[1]), inputs.qk_weight.new_empty(out.shape[1])


@torch.library.register_fake("sasa::block_attention_backward")
def _fake_backward(*arguments: Any) -> tuple[Tensor, ...]:
    """The gradients of qk_weight, rel_weight and v_weight, which follow four upstream tensors and x."""
    return tuple(torch.empty_like(weight) for weight in arguments[5:8])


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.block_size, ctx.max_pool, _channels_last = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    grads = torch.ops.sasa.block_attention_backward(
        grad, None, None, None, *ctx.saved_tensors, ctx.block_size, ctx.max_pool
    )
    _refuse_gradient_of_x(ctx)
    return (None, *grads, None, None, None)


def _keep_statistics(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.block_size, _channels_last = inputs
    ctx.save_for_backward(output[1], *tensors)


def _backward_statistics(ctx: Any, grad: Tensor, grad_mean: Tensor, grad_var: Tensor) -> tuple[Any, ...]:
    grads = torch.ops.sasa.block_attention_backward(
        grad, grad_mean, grad_var, *ctx.saved_tensors, ctx.block_size, True
    )
    _refuse_gradient_of_x(ctx)
    return (None, *grads, None, None)


def _refuse_gradient_of_x(ctx: Any) -> None:
    if ctx.needs_input_grad[0]:  # reached only past the backends, whose `why_not` leaves it to the reference
        raise NotImplementedError(
            'the kernels of block_attention have no gradient of x; use backend="reference"'
        )


torch.library.register_autograd("sasa::block_attention", _backward, setup_context=_keep)
torch.library.register_autograd(
    "sasa::block_attention_statistics", _backward_statistics, setup_context=_keep_statistics
)


@register_flop_formula(torch.ops.sasa.block_attention)
def _flops(
    x_shape: tuple[int, ...],
    qk_shape: tuple[int, ...],
    rel_shape: tuple[int, ...],
    v_shape: tuple[int, ...],
    block_size: int,
    max_pool: bool,
    *args: Any,
    **kwargs: Any,
) -> int:
    return block_attention_flops(x_shape, qk_shape[0], v_shape[1], block_size, max_pool=max_pool)


@register_flop_formula(torch.ops.sasa.block_attention_statistics)
def _statistics_flops(x_shape: tuple[int, ...], *weights_and_block: Any, **kwargs: Any) -> int:
    """Four more for each output: a sum, a difference, its square and the sum of those."""
    batch, _, height, width = x_shape
    _, _, v_shape, _ = weights_and_block[:4]
    return _flops(x_shape, *weights_and_block[:4], True) + 4 * batch * height * width * v_shape[1]


@register_flop_formula(torch.ops.sasa.block_attention_backward)
def _backward_flops(*args: Any, **kwargs: Any) -> int:
    """Twice the forward pass, as torch counts a convolution's."""
    *_, mean_shape = args[:4]
    forward = _flops if mean_shape is None else _statistics_flops
    return 2 * forward(*args[4:])
