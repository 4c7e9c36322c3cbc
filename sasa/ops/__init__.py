"""The operators; they need torch alone."""

from sasa.ops.local_attention import (
    LocalAttentionSpec,
    local_attention,
    local_attention_flops,
    local_attention_maps,
    support,
)

__all__ = [
    "LocalAttentionSpec",
    "local_attention",
    "local_attention_flops",
    "local_attention_maps",
    "support",
]
