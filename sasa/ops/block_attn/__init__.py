"""Attention inside the blocks of an image of few channels (Ramachandran et al., 2019, App. A.1)."""

from sasa.ops.block_attn import double_backward  # noqa: F401  (registers it)
from sasa.ops.block_attn.api import block_attention, block_attention_maps, block_attention_statistics
from sasa.ops.block_attn.flops import block_attention_flops

__all__ = [
    "block_attention",
    "block_attention_flops",
    "block_attention_maps",
    "block_attention_statistics",
]
