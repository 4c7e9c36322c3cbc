"""The fused op as torch knows it: schema, fake kernel and FLOPs. For inference: it has no gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from sasa.ops.local_attn.flops import local_attention_flops
from sasa.ops.local_attn.schema import arithmetic_dtype
from sasa.ops.local_attn.spec import LocalAttentionSpec

_PANEL = 32  # outputs whose weights lie together, as in csrc/local_attention/local_attention.h

# Two ops, so that a compiler that knows the weights packs them once.
torch.library.define("sasa::pack_projection", "(Tensor weight, Tensor? bias, int parts) -> Tensor")
torch.library.define(
    "sasa::local_self_attention",
    "(Tensor x, Tensor packed, Tensor? rel_row, Tensor? rel_col, int channels, int num_heads, "
    "int kernel_rows, int kernel_cols, int dilation_rows, int dilation_cols, float scale, int pool, "
    "bool content, bool relu, bool channels_last) -> Tensor",
)


def call(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    rel_row: Tensor | None,
    rel_col: Tensor | None,
    spec: LocalAttentionSpec,
    *,
    content: bool,
    channels_last: bool,
) -> Tensor:
    """Call the registered op: x, weight and bias of one dtype."""
    arithmetic = arithmetic_dtype(x.dtype)
    rel_row, rel_col = (None if e is None else e.to(arithmetic).contiguous() for e in (rel_row, rel_col))
    parts = 3 if content else 2
    packed = torch.ops.sasa.pack_projection(weight, None if bias is None else bias.contiguous(), parts)
    out: Tensor = torch.ops.sasa.local_self_attention(
        x,
        packed,
        rel_row,
        rel_col,
        weight.shape[0] // parts,
        spec.num_heads,
        *spec.kernel_size,
        *spec.dilation,
        spec.scale,
        spec.pool,
        content,
        spec.relu,
        channels_last,
    )
    return out


@torch.library.register_fake("sasa::pack_projection")
def _fake_packed(weight: Tensor, bias: Tensor | None, parts: int) -> Tensor:
    channels = (weight.shape[1] + 1) // 2 if weight.dtype == torch.bfloat16 else weight.shape[1]
    panels = -(-(weight.shape[0] // parts) // _PANEL)
    return weight.new_empty((parts, panels, channels + 1, _PANEL), dtype=arithmetic_dtype(weight.dtype))


@torch.library.register_fake("sasa::local_self_attention")
def _fake(
    x: Tensor,
    packed: Tensor,
    rel_row: Tensor | None,
    rel_col: Tensor | None,
    channels: int,
    num_heads: int,
    kernel_rows: int,
    kernel_cols: int,
    dilation_rows: int,
    dilation_cols: int,
    scale: float,
    pool: int,
    content: bool,
    relu: bool,
    channels_last: bool,
) -> Tensor:
    batch, _, height, width = x.shape
    size = (batch, channels, (height - 1) // pool + 1, (width - 1) // pool + 1)
    return x.new_empty(size).to(
        memory_format=torch.channels_last if channels_last else torch.contiguous_format
    )


@register_flop_formula(torch.ops.sasa.local_self_attention)
def _flops(
    x_shape: tuple[int, ...],
    packed_shape: tuple[int, ...],
    row_shape: tuple[int, ...] | None,
    col_shape: tuple[int, ...] | None,
    *options: Any,
    **kwargs: Any,
) -> int:
    """The projections as torch counts a convolution's, and the attention."""
    outputs, num_heads, rows, cols, dilation_rows, dilation_cols, scale, pool, content, relu = options[:10]
    batch, channels, height, width = x_shape
    spec = LocalAttentionSpec(num_heads, (rows, cols), (dilation_rows, dilation_cols), scale, pool, relu)
    shape = (batch, outputs, height, width)
    position = row_shape is not None or col_shape is not None
    projections = 2 * batch * height * width * channels * packed_shape[0] * outputs
    return projections + local_attention_flops(shape, shape, spec, content=content, position=position)
