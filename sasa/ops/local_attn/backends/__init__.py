"""The implementations of local attention, and what each of them must offer."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from sasa.ops.dispatch import Backend
from sasa.ops.local_attn.backends import cpu, reference, tiled, triton
from sasa.ops.local_attn.inputs import LocalAttentionInputs


class LocalAttentionBackend(Backend[LocalAttentionInputs], Protocol):
    """A module of this folder."""

    def local_attention(self, inputs: LocalAttentionInputs) -> Tensor:
        """Compute the attention of inputs against which `why_not` gives no reason."""


# "auto" takes the first that has no reason against it.
BACKENDS: tuple[LocalAttentionBackend, ...] = (cpu, triton, reference)
# What exports in standard operations take.
STANDARD: LocalAttentionBackend = tiled
