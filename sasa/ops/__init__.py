"""The ops. They need torch alone."""

from sasa.ops.block_attn import (
    block_attention,
    block_attention_flops,
    block_attention_maps,
    block_attention_statistics,
)
from sasa.ops.dispatch import support
from sasa.ops.local_attn import (
    LocalAttentionSpec,
    local_attention,
    local_attention_flops,
    local_attention_maps,
)
from sasa.ops.local_self_attn import local_self_attention

__all__ = [
    "LocalAttentionSpec",
    "block_attention",
    "block_attention_flops",
    "block_attention_maps",
    "block_attention_statistics",
    "local_attention",
    "local_attention_flops",
    "local_attention_maps",
    "local_self_attention",
    "support",
]
