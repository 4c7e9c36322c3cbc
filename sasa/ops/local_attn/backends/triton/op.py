"""The ops of the schema: allocate the results, launch the kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from sasa.ops.local_attn.backends.triton import launch
from sasa.ops.local_attn.spec import LocalAttentionSpec


def forward(
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
    """sasa::local_attention; lse is in base 2."""
    spec = LocalAttentionSpec(
        num_heads, (kernel_rows, kernel_cols), (dilation_rows, dilation_cols), scale, pool, relu
    )
    batch, _, height, width = q.shape
    out = _empty(v, (batch, v.shape[1], *spec.output_size(height, width)), channels_last)
    lse = q.new_empty((batch if save_lse else 0, num_heads, height, width), dtype=torch.float32)
    if batch > 0:
        maps = launch.Maps(q, k, v, pack(rel_row, rel_col, q, spec), spec, channels_last, tf32())
        launch.forward(maps, out, lse, save_lse=save_lse)()
    return out, lse


def backward(
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
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """sasa::local_attention_backward; an empty tensor where there is no gradient."""
    spec = LocalAttentionSpec(
        num_heads, (kernel_rows, kernel_cols), (dilation_rows, dilation_cols), scale, pool
    )
    batch, channels, height, width = q.shape
    half = channels // num_heads // 2
    rel = pack(rel_row, rel_col, q, spec)
    maps = launch.Maps(q, k, v, rel, spec, channels_last, tf32())
    grad_q = _empty(q, (batch, channels, height, width), channels_last)
    grad_k = _empty(q, (batch, 0 if k is None else channels, height, width), channels_last)
    grad_v = _empty(v, tuple(v.shape), channels_last)
    grad_rel = None
    if batch > 0:
        delta = torch.empty_like(lse)
        size = () if rel is None else (launch.programs(maps), *rel.shape)
        partial = lse.new_zeros(size)
        launch.queries(maps, grad, lse, grad_q, delta, partial)()
        launch.keys(maps, grad, lse, delta, None if k is None else grad_k, grad_v)()
        if rel is not None:
            grad_rel = partial.sum(0)
    if grad_rel is None:
        grad_rel = lse.new_zeros((num_heads, kernel_rows + kernel_cols, channels // num_heads))
    grad_row, grad_col = grad_rel[:, :kernel_rows, :half], grad_rel[:, kernel_rows:, half : 2 * half]
    return (
        grad_q,
        grad_k,
        grad_v,
        (grad_row[:0] if rel_row is None else grad_row).clone(memory_format=torch.contiguous_format),
        (grad_col[:0] if rel_col is None else grad_col).clone(memory_format=torch.contiguous_format),
    )


def pack(
    rel_row: Tensor | None, rel_col: Tensor | None, q: Tensor, spec: LocalAttentionSpec
) -> Tensor | None:
    """Both embeddings in one float32 table (N, kh + kw, D), or None of none.

    Those of rows come first, in the first half of D, then those of columns in the second half; the rest is 0.
    """
    if rel_row is None and rel_col is None:
        return None
    width = q.shape[1] // spec.num_heads
    rows = spec.kernel_size[0]
    table = q.new_zeros((spec.num_heads, sum(spec.kernel_size), width), dtype=torch.float32)
    if rel_row is not None:
        table[:, :rows, : width // 2] = rel_row
    if rel_col is not None:
        table[:, rows:, width // 2 :] = rel_col
    return table


def tf32() -> bool:
    """Whether the user lets float32 products on CUDA devices be tf32, at this moment.

    What `allow_tf32` and `torch.set_float32_matmul_precision` set is in here too, while to read those is an
    error once this one was set.
    """
    return bool(torch.backends.cuda.matmul.fp32_precision == "tf32")


def _empty(like: Tensor, size: tuple[int, ...], channels_last: bool) -> Tensor:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty(size, dtype=like.dtype, device=like.device, memory_format=layout)
