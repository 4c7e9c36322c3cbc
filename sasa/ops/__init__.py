"""The operators; they need torch alone."""

from sasa.ops.block_attn import block_attention, block_attention_statistics
from sasa.ops.local_attn import (
    LocalAttentionSpec,
    load_tuning,
    local_attention,
    local_attention_flops,
    local_attention_maps,
    support,
    tune_local_attention,
)
from sasa.ops.local_self_attn import local_self_attention

__all__ = [
    "LocalAttentionSpec",
    "block_attention",
    "block_attention_statistics",
    "load_tuning",
    "local_attention",
    "local_attention_flops",
    "local_attention_maps",
    "local_self_attention",
    "support",
    "tune_local_attention",
]
