"""Layers: parameters, reshapes and one call into the ops; they need torch alone."""

from sasa.layers.attention_stem import AttentionStem
from sasa.layers.local_self_attention import LocalSelfAttention2d

__all__ = ["AttentionStem", "LocalSelfAttention2d"]
