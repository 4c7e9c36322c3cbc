"""The implementations of local attention, and what each of them must offer."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from sasa.ops.local_attn.backends import cpu, reference, triton
from sasa.ops.local_attn.spec import LocalAttentionSpec


class Backend(Protocol):
    """A module of this folder."""

    NAME: str

    def why_not(
        self,
        q: Tensor,
        k: Tensor | None,
        v: Tensor,
        rel_row: Tensor | None,
        rel_col: Tensor | None,
        spec: LocalAttentionSpec,
    ) -> list[str]:
        """Every reason why this backend cannot run these arguments; empty where it can."""

    def local_attention(
        self,
        q: Tensor,
        k: Tensor | None,
        v: Tensor,
        rel_row: Tensor | None,
        rel_col: Tensor | None,
        spec: LocalAttentionSpec,
    ) -> Tensor:
        """Compute the attention; the arguments are valid and `why_not` gave no reason."""


# "auto" takes the first that has no reason against it.
BACKENDS: tuple[Backend, ...] = (cpu, triton, reference)
