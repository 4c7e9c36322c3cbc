"""The fused op as torch knows it: schema, fake kernel and FLOPs. For inference: it has no gradient."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from sasa.ops.dtypes import arithmetic_dtype
from sasa.ops.local_attn.flops import local_attention_flops
from sasa.ops.local_attn.schema import in_arithmetic
from sasa.ops.local_attn.spec import LocalAttentionSpec
from sasa.ops.local_self_attn.inputs import LocalSelfAttentionInputs
from sasa.ops.memory_format import empty_map, is_channels_last

_PANEL = 32  # outputs whose weights lie together, as in csrc/local_attention/local_attention.h

# Two ops, so that a compiler that knows the weights packs them once.
torch.library.define("sasa::pack_projection", "(Tensor weight, Tensor? bias, int parts) -> Tensor")
torch.library.define(
    "sasa::local_self_attention",
    "(Tensor x, Tensor packed, Tensor? rel_row, Tensor? rel_col, int channels, int num_heads, "
    "int kernel_rows, int kernel_cols, int dilation_rows, int dilation_cols, float scale, int pool, "
    "bool content, bool relu, bool channels_last) -> Tensor",
)


def call(inputs: LocalSelfAttentionInputs) -> Tensor:
    """Call the registered ops: one packs the weights, the other projects and attends."""
    weight, bias, parts = inputs.weight, inputs.bias, inputs.parts
    packed = torch.ops.sasa.pack_projection(weight, None if bias is None else bias.contiguous(), parts)
    *_, rel_row, rel_col = in_arithmetic(inputs.attention).tensors
    spec = inputs.attention.spec
    out: Tensor = torch.ops.sasa.local_self_attention(
        inputs.x,
        packed,
        rel_row,
        rel_col,
        weight.shape[0] // parts,
        *spec.arguments,
        inputs.content,
        spec.relu,
        is_channels_last(inputs.x) or is_channels_last(weight),
    )
    return out


@torch.library.register_fake("sasa::pack_projection")
def _fake_packed(weight: Tensor, bias: Tensor | None, parts: int) -> Tensor:
    channels = (weight.shape[1] + 1) // 2 if weight.dtype == torch.bfloat16 else weight.shape[1]
    panels = -(-(weight.shape[0] // parts) // _PANEL)
    return weight.new_empty((parts, panels, channels + 1, _PANEL), dtype=arithmetic_dtype(weight.dtype))


@torch.library.register_fake("sasa::local_self_attention")
def _fake(x: Tensor, packed: Tensor, *arguments: Any) -> Tensor:
    _row, _col, channels, *window, _content, _relu, channels_last = arguments
    batch, _, height, width = x.shape
    size = LocalAttentionSpec.of_arguments(*window).output_size(height, width)
    return empty_map(x, (batch, channels, *size), channels_last)


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
    outputs, *window, content, relu, _channels_last = options
    batch, channels, height, width = x_shape
    shape = (batch, outputs, height, width)
    position = row_shape is not None or col_shape is not None
    projections = 2 * batch * height * width * channels * packed_shape[0] * outputs
    spec = replace(LocalAttentionSpec.of_arguments(*window), relu=relu)
    return projections + local_attention_flops(shape, shape, spec, content=content, position=position)
