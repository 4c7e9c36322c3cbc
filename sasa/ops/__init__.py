"""The operators; they need torch alone."""

from sasa.ops.local_attention import (
    LocalAttentionSpec,
    load_tuning,
    local_attention,
    local_attention_flops,
    local_attention_maps,
    support,
    tune_local_attention,
)
from sasa.ops.local_self_attention import local_self_attention
from sasa.ops.square_attention import square_attention, square_attention_statistics

__all__ = [
    "LocalAttentionSpec",
    "load_tuning",
    "local_attention",
    "local_attention_flops",
    "local_attention_maps",
    "local_self_attention",
    "square_attention",
    "square_attention_statistics",
    "support",
    "tune_local_attention",
]
