"""The implementations of attention inside blocks, and what each of them must offer."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from sasa.ops.block_attn.backends import cpu, reference, triton


class Backend(Protocol):
    """A module of this folder."""

    NAME: str

    def why_not(self, x: Tensor, qk_weight: Tensor, rel_weight: Tensor, v_weight: Tensor) -> list[str]:
        """Every reason why this backend cannot run these arguments; empty where it can."""

    def block_attention(
        self,
        x: Tensor,
        qk_weight: Tensor,
        rel_weight: Tensor,
        v_weight: Tensor,
        block_size: int,
        max_pool: bool,
    ) -> Tensor:
        """Compute the attention; the arguments are valid and `why_not` gave no reason."""

    def block_attention_statistics(
        self, x: Tensor, qk_weight: Tensor, rel_weight: Tensor, v_weight: Tensor, block_size: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Compute the maxima, means and variances; as above."""


# "auto" takes the first that has no reason against it.
BACKENDS: tuple[Backend, ...] = (cpu, triton, reference)
