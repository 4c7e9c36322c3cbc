"""The ops of the schema: allocate the results, launch the kernels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sasa.ops.local_attn.backends.triton import launch
from sasa.ops.local_attn.inputs import LocalAttentionInputs
from sasa.ops.memory_format import empty_map


def forward(*arguments: Any) -> tuple[Tensor, Tensor]:
    """sasa::local_attention; lse is in base 2."""
    *given, channels_last, save_lse = arguments
    inputs = LocalAttentionInputs.of_arguments(*given)
    batch, _, height, width = inputs.q.shape
    out = empty_map(inputs.v, inputs.output_shape, channels_last)
    lse_shape = (batch if save_lse else 0, inputs.spec.num_heads, height, width)
    lse = inputs.q.new_empty(lse_shape, dtype=torch.float32)
    if batch > 0:
        launch.forward(maps_of(inputs, channels_last), out, lse, save_lse=save_lse)()
    return out, lse


def backward(grad: Tensor, *arguments: Any) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """sasa::local_attention_backward; an empty tensor if there is no gradient."""
    *tensors, lse = arguments[:6]
    inputs, channels_last = LocalAttentionInputs.of_arguments(*tensors, *arguments[6:-1]), arguments[-1]
    q, k, v = inputs.q, inputs.k, inputs.v
    batch, channels, height, width = q.shape
    grad_q = empty_map(q, (batch, channels, height, width), channels_last)
    grad_k = empty_map(q, (batch, 0 if k is None else channels, height, width), channels_last)
    grad_v = empty_map(v, tuple(v.shape), channels_last)
    grad_rel = None
    if batch > 0:
        maps = maps_of(inputs, channels_last)
        delta = torch.empty_like(lse)
        size = () if maps.rel is None else (launch.programs(maps), *maps.rel.shape)
        partial = lse.new_zeros(size)
        launch.queries(maps, grad, lse, grad_q, delta, partial)()
        launch.keys(maps, grad, lse, delta, None if k is None else grad_k, grad_v)()
        if maps.rel is not None:
            grad_rel = partial.sum(0)
    rows, half = inputs.spec.kernel_size[0], inputs.head_dim // 2
    if grad_rel is None:
        grad_rel = lse.new_zeros((inputs.spec.num_heads, sum(inputs.spec.kernel_size), inputs.head_dim))
    grad_row, grad_col = grad_rel[:, :rows, :half], grad_rel[:, rows:, half : 2 * half]
    return (
        grad_q,
        grad_k,
        grad_v,
        (grad_row[:0] if inputs.rel_row is None else grad_row).clone(memory_format=torch.contiguous_format),
        (grad_col[:0] if inputs.rel_col is None else grad_col).clone(memory_format=torch.contiguous_format),
    )


def maps_of(inputs: LocalAttentionInputs, channels_last: bool) -> launch.Maps:
    """What the kernels read, with tf32 as the user allows it at this moment."""
    return launch.Maps(inputs.q, inputs.k, inputs.v, pack(inputs), inputs.spec, channels_last, tf32())


def pack(inputs: LocalAttentionInputs) -> Tensor | None:
    """Both embeddings in one float32 table (N, kh + kw, D), or None of none.

    Those of rows come first, in the first half of D, then those of columns in the second half; the rest is 0.
    """
    if inputs.rel_row is None and inputs.rel_col is None:
        return None
    head_dim, rows = inputs.head_dim, inputs.spec.kernel_size[0]
    shape = (inputs.spec.num_heads, sum(inputs.spec.kernel_size), head_dim)
    table = inputs.q.new_zeros(shape, dtype=torch.float32)
    if inputs.rel_row is not None:
        table[:, :rows, : head_dim // 2] = inputs.rel_row
    if inputs.rel_col is not None:
        table[:, rows:, head_dim // 2 :] = inputs.rel_col
    return table


def tf32() -> bool:
    """Whether the user lets float32 products on CUDA devices be tf32, at this moment.

    This setting includes what `allow_tf32` and `torch.set_float32_matmul_precision` set; reading those is an
    error once this setting was made.
    """
    return bool(torch.backends.cuda.matmul.fp32_precision == "tf32")
