"""Local attention of a map with itself: projections and attention in one."""

from sasa.ops.local_self_attn.api import local_self_attention

__all__ = ["local_self_attention"]
