"""What torch knows of the compiled ops: schemas, fake kernels, gradients and FLOPs.

The kernels are in csrc/ for CPUs and in backends/triton/ for CUDA devices.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from sasa.ops.block_attn.backends import reference

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


@torch.library.register_fake("sasa::block_attention")
def _fake(
    x: Tensor,
    qk_weight: Tensor,
    rel_weight: Tensor,
    v_weight: Tensor,
    block_size: int,
    max_pool: bool,
    channels_last: bool,
) -> Tensor:
    batch, _, height, width = x.shape
    step = block_size if max_pool else 1
    size = (batch, v_weight.shape[1], (height + step - 1) // step, (width + step - 1) // step)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return x.new_empty(size).to(memory_format=layout)


@torch.library.register_fake("sasa::block_attention_statistics")
def _fake_statistics(
    x: Tensor, qk_weight: Tensor, rel_weight: Tensor, v_weight: Tensor, block_size: int, channels_last: bool
) -> tuple[Tensor, Tensor, Tensor]:
    out = _fake(x, qk_weight, rel_weight, v_weight, block_size, True, channels_last)
    return out, qk_weight.new_empty(out.shape[1]), qk_weight.new_empty(out.shape[1])


@torch.library.register_fake("sasa::block_attention_backward")
def _fake_backward(
    grad: Tensor,
    grad_mean: Tensor | None,
    grad_var: Tensor | None,
    mean: Tensor | None,
    x: Tensor,
    qk_weight: Tensor,
    rel_weight: Tensor,
    v_weight: Tensor,
    block_size: int,
    max_pool: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(qk_weight), torch.empty_like(rel_weight), torch.empty_like(v_weight)


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


def _keep_all(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.block_size, ctx.max_pool = inputs
    ctx.save_for_backward(*tensors)


def _second_backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
    """Differentiate the reference's gradients: rarely wanted, so right and not fast."""
    upstream = [None if g is None else g.detach().requires_grad_() for g in ctx.saved_tensors[:3]]
    with torch.enable_grad():
        x, *learned = inputs = [x.detach().requires_grad_() for x in ctx.saved_tensors[4:]]
        qk_weight, rel_weight, v_weight = learned
        outs: tuple[Tensor, ...]
        if upstream[1] is None:
            outs = (
                reference.block_attention(x, qk_weight, rel_weight, v_weight, ctx.block_size, ctx.max_pool),
            )
        else:
            outs = reference.block_attention_statistics(x, qk_weight, rel_weight, v_weight, ctx.block_size)
        given = [g for g in upstream if g is not None]
        first = torch.autograd.grad(outs, learned, given, create_graph=True, materialize_grads=True)
        second = iter(torch.autograd.grad(first, [*given, *inputs], grads, allow_unused=True))
    by_upstream = [None if g is None else next(second) for g in upstream]
    return (*by_upstream, None, *second, None, None)


torch.library.register_autograd("sasa::block_attention", _backward, setup_context=_keep)
torch.library.register_autograd(
    "sasa::block_attention_statistics", _backward_statistics, setup_context=_keep_statistics
)
torch.library.register_autograd("sasa::block_attention_backward", _second_backward, setup_context=_keep_all)


@register_flop_formula(torch.ops.sasa.block_attention)
def _flops(
    x_shape: tuple[int, ...],
    forms_shape: tuple[int, ...],
    relative_shape: tuple[int, ...],
    matrices_shape: tuple[int, ...],
    block_size: int,
    max_pool: bool,
    *args: Any,
    **kwargs: Any,
) -> int:
    """The equations of `sasa.ops.block_attention`, by the convention of `sasa.ops.local_attention_flops`."""
    batch, channels, height, width = x_shape
    heads, outputs = forms_shape[0], matrices_shape[1]
    pixel = 2 * heads * channels**2 + 2 * outputs * channels + (outputs if max_pool else 0)
    pair = heads * (2 * 2 * channels + 1 + 5) + 2 * outputs
    pairs = math.prod(
        size // block_size * block_size**2 + (size % block_size) ** 2 for size in (height, width)
    )
    return batch * (height * width * pixel + pairs * pair)


@register_flop_formula(torch.ops.sasa.block_attention_statistics)
def _statistics_flops(x_shape: tuple[int, ...], *learned_and_block: Any, **kwargs: Any) -> int:
    """Four more for each output: a sum, a difference, its square and the sum of those."""
    batch, _, height, width = x_shape
    _, _, matrices_shape, _ = learned_and_block[:4]
    return _flops(x_shape, *learned_and_block[:4], True) + 4 * batch * height * width * matrices_shape[1]


@register_flop_formula(torch.ops.sasa.block_attention_backward)
def _backward_flops(*args: Any, **kwargs: Any) -> int:
    """Twice the forward pass, as torch counts a convolution's."""
    *_, mean_shape = args[:4]
    forward = _flops if mean_shape is None else _statistics_flops
    return 2 * forward(*args[4:])
