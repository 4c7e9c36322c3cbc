"""The implementations of attention inside blocks, and what each of them must offer."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from sasa.ops.block_attn.backends import cpu, dense, reference, triton
from sasa.ops.block_attn.inputs import BlockAttentionInputs
from sasa.ops.dispatch import Backend


class BlockAttentionBackend(Backend[BlockAttentionInputs], Protocol):
    """A module of this folder."""

    def block_attention(self, inputs: BlockAttentionInputs) -> Tensor:
        """Compute the attention of inputs against which `why_not` gives no reason."""

    def block_attention_statistics(self, inputs: BlockAttentionInputs) -> tuple[Tensor, Tensor, Tensor]:
        """Compute the maxima, means and variances of such inputs."""


# "auto" takes the first that has no reason against it.
BACKENDS: tuple[BlockAttentionBackend, ...] = (cpu, triton, reference)
# What exports in standard operations take.
STANDARD: BlockAttentionBackend = dense
