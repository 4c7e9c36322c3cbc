"""The second derivative of the compiled ops: that of the reference's formula, slow but right."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sasa.ops.block_attn import schema  # noqa: F401  (defines the ops)
from sasa.ops.block_attn.backends import reference
from sasa.ops.block_attn.inputs import BlockAttentionInputs


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.block_size, ctx.max_pool = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
    grad, grad_mean, grad_var, _mean, *given = ctx.saved_tensors
    upstream = [None if g is None else g.detach().requires_grad_() for g in (grad, grad_mean, grad_var)]
    with torch.enable_grad():
        tensors = [x.detach().requires_grad_() for x in given]
        x, qk_weight, rel_weight, v_weight = tensors
        inputs = BlockAttentionInputs(x, qk_weight, rel_weight, v_weight, ctx.block_size, ctx.max_pool)
        outs: Any = (
            reference.block_attention(inputs)
            if upstream[1] is None
            else reference.block_attention_statistics(inputs)
        )
        present = [g for g in upstream if g is not None]
        first = torch.autograd.grad(outs, tensors[1:], present, create_graph=True, materialize_grads=True)
        second = iter(torch.autograd.grad(first, [*present, *tensors], grads, allow_unused=True))
    by_upstream = [None if g is None else next(second) for g in upstream]
    return (*by_upstream, None, *second, None, None)


torch.library.register_autograd("sasa::block_attention_backward", _backward, setup_context=_setup_context)
