"""The second derivative of the compiled ops: that of the reference's formula, slow but right."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sasa.ops.local_attn import schema  # noqa: F401  (defines the op)
from sasa.ops.local_attn.backends import reference
from sasa.ops.local_attn.inputs import LocalAttentionInputs


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, _lse = inputs[:7]
    ctx.save_for_backward(*tensors)
    ctx.window = inputs[7:-1]


def _backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
    with torch.enable_grad():
        tensors = [None if x is None else x.detach().requires_grad_() for x in ctx.saved_tensors]
        out = reference.local_attention(LocalAttentionInputs.of_arguments(*tensors[1:], *ctx.window))
        given = [x for x in tensors if x is not None]
        first = torch.autograd.grad(out, given[1:], given[0], create_graph=True, materialize_grads=True)
        wanted = [g for g, x in zip(grads, tensors[1:], strict=True) if x is not None]
        second = iter(torch.autograd.grad(first, given, wanted, allow_unused=True))
    return (*[None if x is None else next(second) for x in tensors], None, *[None] * 8)


torch.library.register_autograd("sasa::local_attention_backward", _backward, setup_context=_setup_context)
