"""The arguments of one local self-attention as one object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sasa.ops.autocast import cast
from sasa.ops.checks import check_map, check_tensors
from sasa.ops.local_attn.inputs import LocalAttentionInputs


@dataclass(frozen=True)
class LocalSelfAttentionInputs:
    """Valid arguments of `sasa.ops.local_self_attention`, as backends take them.

    Attributes:
        x: The map (B, C, H, W).
        weight: The projections (parts·N·D, C, 1, 1), of x's dtype.
        bias: (parts·N·D,), of x's dtype, or None.
        attention: The attention of the projected map, with stand-ins of its shape, dtype and device for q, k
            and v; k is None without content.
    """

    x: Tensor
    weight: Tensor
    bias: Tensor | None
    attention: LocalAttentionInputs

    @classmethod
    def validated(
        cls,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        rel_row: Tensor | None,
        rel_col: Tensor | None,
        content: bool,
        *spec: Any,
        **named_spec: Any,
    ) -> LocalSelfAttentionInputs:
        """The inputs of a user's arguments, with x, weight and bias cast as autocast requires.

        Args and errors as in `sasa.ops.local_self_attention`.
        """
        check_tensors({"x": x, "weight": weight, "bias": bias}, optional=("bias",))
        check_map("x", x)
        parts = 3 if content else 2
        rows = weight.shape[0] if weight.ndim == 4 else 0
        if rows == 0 or rows % parts or weight.shape[1:] != (x.shape[1], 1, 1):
            raise ValueError(
                f"weight: expected ({parts}·N·D, C, 1, 1) for x of (B, C, H, W), "
                f"got {tuple(weight.shape)} and {tuple(x.shape)}"
            )
        if bias is not None and bias.shape != (rows,):
            raise ValueError(f"bias: expected ({rows},) as weight has rows, got {tuple(bias.shape)}")
        if not content and rel_row is None and rel_col is None:
            raise ValueError("content: False leaves no logit without rel_row or rel_col; give an embedding")
        x, weight, bias = cast(x), cast(weight), None if bias is None else cast(bias)
        for name, learned in (("weight", weight), ("bias", bias)):
            if learned is not None and learned.dtype != x.dtype:
                raise TypeError(
                    f"{name}: expected {x.dtype} as x has, got {learned.dtype}; convert one of them first"
                )
        q = x[:, :1].expand(-1, rows // parts, -1, -1)
        k = q if content else None
        attention = LocalAttentionInputs.validated(q, k, q, rel_row, rel_col, *spec, **named_spec)
        return cls(x, weight, bias, attention)

    @property
    def device(self) -> torch.device:
        """The device of all tensors."""
        return self.x.device

    @property
    def content(self) -> bool:
        """Whether there are keys."""
        return self.attention.k is not None

    @property
    def parts(self) -> int:
        """How many projections there are: of queries, keys (with content) and values."""
        return 3 if self.content else 2

    @property
    def tensors(self) -> tuple[Tensor | None, ...]:
        """x, weight, bias, rel_row and rel_col."""
        return self.x, self.weight, self.bias, self.attention.rel_row, self.attention.rel_col
