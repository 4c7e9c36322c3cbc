"""The implementations of attention inside squares, and what each of them must offer."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from sasa.ops.square_attention.backends import cpu, reference, triton


class Backend(Protocol):
    """A module of this folder."""

    NAME: str

    def why_not(self, x: Tensor, forms: Tensor, relative: Tensor, matrices: Tensor) -> list[str]:
        """Every reason why this backend cannot run these arguments; empty where it can."""

    def square_attention(
        self, x: Tensor, forms: Tensor, relative: Tensor, matrices: Tensor, block: int, pool: bool
    ) -> Tensor:
        """Compute the attention; the arguments are valid and `why_not` gave no reason."""

    def square_attention_statistics(
        self, x: Tensor, forms: Tensor, relative: Tensor, matrices: Tensor, block: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Compute the maxima, means and variances; as above."""


# "auto" takes the first that has no reason against it.
BACKENDS: tuple[Backend, ...] = (cpu, triton, reference)
