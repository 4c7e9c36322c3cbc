"""Layers: parameters, reshapes and one call into the ops; they need torch alone."""

from sasa.layers.attention_stem import AttentionStem
from sasa.layers.fused_stem import FusedAttentionStem
from sasa.layers.fusion import fuse
from sasa.layers.local_self_attention import LocalSelfAttention2d
from sasa.layers.replacement import ReplacedConvolutions, replace_convolutions

__all__ = [
    "AttentionStem",
    "FusedAttentionStem",
    "LocalSelfAttention2d",
    "ReplacedConvolutions",
    "fuse",
    "replace_convolutions",
]
