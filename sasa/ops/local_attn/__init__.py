"""Local attention: every pixel attends to the window around it (Ramachandran et al., 2019, §2.2)."""

from sasa.ops.local_attn.api import local_attention, local_attention_maps, support
from sasa.ops.local_attn.flops import local_attention_flops
from sasa.ops.local_attn.spec import LocalAttentionSpec
from sasa.ops.local_attn.tuning import load_tuning, tune_local_attention

__all__ = [
    "LocalAttentionSpec",
    "load_tuning",
    "local_attention",
    "local_attention_flops",
    "local_attention_maps",
    "support",
    "tune_local_attention",
]
