"""The implementations of local self-attention, and what each of them must offer."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from sasa.ops.dispatch import Backend
from sasa.ops.local_attn.backends import BACKENDS as ATTENTION_BACKENDS
from sasa.ops.local_attn.backends import STANDARD as ATTENTION_STANDARD
from sasa.ops.local_self_attn.backends import fused_cpu
from sasa.ops.local_self_attn.backends.projected import Projected
from sasa.ops.local_self_attn.inputs import LocalSelfAttentionInputs


class LocalSelfAttentionBackend(Backend[LocalSelfAttentionInputs], Protocol):
    """A module of this folder, or a convolution before a backend of local attention."""

    def local_self_attention(self, inputs: LocalSelfAttentionInputs) -> Tensor:
        """Compute the attention of inputs against which `why_not` gives no reason."""


# "auto" takes the first that has no reason against it.
BACKENDS: tuple[LocalSelfAttentionBackend, ...] = (fused_cpu, *map(Projected, ATTENTION_BACKENDS))
# What exports in standard operations take.
STANDARD: LocalSelfAttentionBackend = Projected(ATTENTION_STANDARD)
