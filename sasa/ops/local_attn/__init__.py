"""Local attention: every pixel attends to the window around it (Ramachandran et al., 2019, §2.2)."""

from sasa.ops.local_attn import double_backward  # noqa: F401  (registers it)
from sasa.ops.local_attn.api import local_attention, local_attention_maps
from sasa.ops.local_attn.flops import local_attention_flops
from sasa.ops.local_attn.spec import LocalAttentionSpec

__all__ = ["LocalAttentionSpec", "local_attention", "local_attention_flops", "local_attention_maps"]
