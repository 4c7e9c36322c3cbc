"""Fused C++ kernels for tensors on a CPU (csrc/), forward and backward."""

from __future__ import annotations

import torch
from torch import Tensor

from sasa.ops import compiled, transforms
from sasa.ops.local_attn import schema
from sasa.ops.local_attn.memory_format import is_channels_last
from sasa.ops.local_attn.spec import LocalAttentionSpec

NAME = "cpu"

_DTYPES = (torch.float32, torch.bfloat16, torch.float64)


def why_not(
    q: Tensor,
    k: Tensor | None,
    v: Tensor,
    rel_row: Tensor | None,
    rel_col: Tensor | None,
    spec: LocalAttentionSpec,
) -> list[str]:
    """The reasons why this backend cannot run these arguments."""
    reasons = []
    if not compiled.is_available():
        reasons.append(compiled.MISSING)
    if q.device.type not in ("cpu", "meta"):  # on meta the ops' fake kernels answer
        reasons.append(f"the tensors are on {q.device}, not on a CPU")
    dtypes = {x.dtype for x in (q, k, v) if x is not None}
    if len(dtypes) > 1 or q.dtype not in _DTYPES:
        names = ", ".join(sorted(map(str, dtypes)))
        reasons.append(f"q, k and v are {names}, not all of one of {', '.join(map(str, _DTYPES))}")
    arithmetic = schema.arithmetic_dtype(q.dtype)
    for name, x in (("rel_row", rel_row), ("rel_col", rel_col)):
        if x is not None and torch.promote_types(x.dtype, arithmetic) != arithmetic:
            reasons.append(f"{name} is {x.dtype}, wider than the {arithmetic} of the sums")
    return reasons + transforms.why_not(*(x for x in (q, k, v, rel_row, rel_col) if x is not None))


def local_attention(
    q: Tensor,
    k: Tensor | None,
    v: Tensor,
    rel_row: Tensor | None,
    rel_col: Tensor | None,
    spec: LocalAttentionSpec,
) -> Tensor:
    """See `sasa.local_attention`."""
    arithmetic = schema.arithmetic_dtype(q.dtype)
    rel_row, rel_col = (None if x is None else x.to(arithmetic).contiguous() for x in (rel_row, rel_col))
    return schema.call(q, k, v, rel_row, rel_col, spec, channels_last=is_channels_last(q))
