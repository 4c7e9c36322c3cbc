"""The compiled kernels (csrc/) for CPUs; nothing but the arguments is kept for the backward pass."""

from __future__ import annotations

import torch
from torch import Tensor

from sasa.ops import compiled, transforms
from sasa.ops.local_attention.memory_format import is_channels_last
from sasa.ops.square_attention import schema  # noqa: F401  (defines the op)

NAME = "cpu"

_DTYPES = (torch.float32, torch.bfloat16, torch.float64)


def why_not(x: Tensor, forms: Tensor, relative: Tensor, matrices: Tensor) -> list[str]:
    """Every reason why this backend cannot run these arguments; empty where it can."""
    reasons = []
    if not compiled.is_available():
        reasons.append(compiled.MISSING)
    if x.device.type != "cpu":
        reasons.append(f"x is on {x.device}, not a CPU")
    if x.dtype not in _DTYPES:
        reasons.append(f"x has {x.dtype}, not {', '.join(map(str, _DTYPES))}")
    arithmetic = torch.promote_types(x.dtype, torch.float32)
    for name, argument in (("forms", forms), ("relative", relative), ("matrices", matrices)):
        if torch.promote_types(arithmetic, argument.dtype) != arithmetic:
            reasons.append(f"{name} has {argument.dtype}, more precise than {arithmetic} for x's {x.dtype}")
    if torch.is_grad_enabled() and x.requires_grad:
        reasons.append("x requires a gradient")
    return reasons + transforms.why_not(x, forms, relative, matrices)


def square_attention(
    x: Tensor, forms: Tensor, relative: Tensor, matrices: Tensor, block: int, pool: bool
) -> Tensor:
    """See `sasa.ops.square_attention`; the arguments are valid."""
    arguments = _in_arithmetic(x, forms, relative, matrices)
    out: Tensor = torch.ops.sasa.square_attention(x, *arguments, block, pool, is_channels_last(x))
    return out


def square_attention_statistics(
    x: Tensor, forms: Tensor, relative: Tensor, matrices: Tensor, block: int
) -> tuple[Tensor, Tensor, Tensor]:
    """See `sasa.ops.square_attention_statistics`; the arguments are valid."""
    arguments = _in_arithmetic(x, forms, relative, matrices)
    out: tuple[Tensor, Tensor, Tensor] = torch.ops.sasa.square_attention_statistics(
        x, *arguments, block, is_channels_last(x)
    )
    return out


def _in_arithmetic(x: Tensor, *arguments: Tensor) -> list[Tensor]:
    dtype = torch.promote_types(x.dtype, torch.float32)
    return [argument.to(dtype).contiguous() for argument in arguments]
