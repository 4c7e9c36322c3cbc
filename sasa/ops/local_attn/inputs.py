"""The arguments of one local attention as one object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sasa.ops.autocast import cast
from sasa.ops.checks import check_map, check_tensors
from sasa.ops.local_attn.spec import LocalAttentionSpec


@dataclass(frozen=True)
class LocalAttentionInputs:
    """Valid arguments of `sasa.local_attention`, as backends take them.

    Attributes:
        q: Queries (B, N·D, H, W).
        k: Keys, shaped as q, or None.
        v: Values (B, N·Dv, H, W).
        rel_row: Row embeddings (N, kh, D/2), or None.
        rel_col: Column embeddings (N, kw, D/2), or None.
        spec: The window and everything else that is not a tensor.
    """

    q: Tensor
    k: Tensor | None
    v: Tensor
    rel_row: Tensor | None
    rel_col: Tensor | None
    spec: LocalAttentionSpec

    @classmethod
    def validated(
        cls,
        q: Tensor,
        k: Tensor | None,
        v: Tensor,
        rel_row: Tensor | None,
        rel_col: Tensor | None,
        *spec: Any,
        **named_spec: Any,
    ) -> LocalAttentionInputs:
        """The inputs of a user's arguments, with q, k and v cast as autocast requires.

        Args and errors as in `sasa.local_attention`.
        """
        tensors = {"q": q, "k": k, "v": v, "rel_row": rel_row, "rel_col": rel_col}
        check_tensors(tensors, optional=("k", "rel_row", "rel_col"))
        window = LocalAttentionSpec.validated(*spec, **named_spec)
        check_map("q", q)
        if k is not None and k.shape != q.shape:
            raise ValueError(f"k: expected q's shape {tuple(q.shape)}, got {tuple(k.shape)}")
        if v.ndim != 4 or (v.shape[0], v.shape[2:]) != (q.shape[0], q.shape[2:]) or v.shape[1] == 0:
            expected = f"({q.shape[0]}, channels, {q.shape[2]}, {q.shape[3]})"
            raise ValueError(f"v: expected {expected} to go with q, got {tuple(v.shape)}")
        for name, x in (("q", q), ("v", v)):
            if x.shape[1] % window.num_heads:
                raise ValueError(
                    f"num_heads: expected a divisor of {name}'s {x.shape[1]} channels, got {window.num_heads}"
                )
        head_dim = q.shape[1] // window.num_heads
        for name, embedding, taps in zip(
            ("rel_row", "rel_col"), (rel_row, rel_col), window.kernel_size, strict=True
        ):
            if embedding is None:
                continue
            if head_dim % 2:
                raise ValueError(
                    f"{name}: expected heads of even width, whose halves take the row and the column, "
                    f"got {head_dim} (q's {q.shape[1]} channels over num_heads={window.num_heads})"
                )
            shape = (window.num_heads, taps, head_dim // 2)
            if embedding.shape != shape:
                raise ValueError(
                    f"{name}: expected (num_heads, extent, D/2) = {shape}, got {tuple(embedding.shape)}"
                )
        if k is None and rel_row is None and rel_col is None:
            raise ValueError("k: None leaves no logit without rel_row or rel_col; give k or an embedding")
        return cls(cast(q), None if k is None else cast(k), cast(v), rel_row, rel_col, window)

    @classmethod
    def of_arguments(cls, *arguments: Any) -> LocalAttentionInputs:
        """The inputs of the arguments of a registered op, which are `arguments` and possibly relu."""
        q, k, v, rel_row, rel_col, *spec = arguments
        return cls(q, k, v, rel_row, rel_col, LocalAttentionSpec.of_arguments(*spec))

    @property
    def arguments(self) -> tuple[Any, ...]:
        """What the registered ops take: the tensors and the spec's numbers, without relu."""
        return (*self.tensors, *self.spec.arguments)

    @property
    def device(self) -> torch.device:
        """The device of all tensors."""
        return self.q.device

    @property
    def tensors(self) -> tuple[Tensor | None, ...]:
        """q, k, v, rel_row and rel_col."""
        return self.q, self.k, self.v, self.rel_row, self.rel_col

    @property
    def maps(self) -> dict[str, Tensor]:
        """Those of q, k and v that are given."""
        return {name: x for name, x in (("q", self.q), ("k", self.k), ("v", self.v)) if x is not None}

    @property
    def embeddings(self) -> dict[str, Tensor | None]:
        """rel_row and rel_col by name."""
        return {"rel_row": self.rel_row, "rel_col": self.rel_col}

    @property
    def head_dim(self) -> int:
        """D."""
        return self.q.shape[1] // self.spec.num_heads

    @property
    def output_shape(self) -> tuple[int, int, int, int]:
        """(B, N·Dv, ceil(H/pool), ceil(W/pool))."""
        return (self.q.shape[0], self.v.shape[1], *self.spec.output_size(*self.q.shape[2:]))
