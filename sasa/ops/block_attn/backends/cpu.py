"""The compiled kernels (csrc/) for CPUs; nothing but the arguments is kept for the backward pass."""

from __future__ import annotations

import torch
from torch import Tensor

from sasa.ops import compiled, transforms
from sasa.ops.block_attn import schema  # noqa: F401  (defines the op)
from sasa.ops.local_attn.memory_format import is_channels_last

NAME = "cpu"

_DTYPES = (torch.float32, torch.bfloat16, torch.float64)


def why_not(x: Tensor, qk_weight: Tensor, rel_weight: Tensor, v_weight: Tensor) -> list[str]:
    """Every reason why this backend cannot run these arguments; empty where it can."""
    reasons = []
    if not compiled.is_available():
        reasons.append(compiled.MISSING)
    if x.device.type != "cpu":
        reasons.append(f"x is on {x.device}, not a CPU")
    if x.dtype not in _DTYPES:
        reasons.append(f"x has {x.dtype}, not {', '.join(map(str, _DTYPES))}")
    arithmetic = torch.promote_types(x.dtype, torch.float32)
    for name, argument in (("qk_weight", qk_weight), ("rel_weight", rel_weight), ("v_weight", v_weight)):
        if torch.promote_types(arithmetic, argument.dtype) != arithmetic:
            reasons.append(f"{name} has {argument.dtype}, more precise than {arithmetic} for x's {x.dtype}")
    if torch.is_grad_enabled() and x.requires_grad:
        reasons.append("x requires a gradient")
    return reasons + transforms.why_not(x, qk_weight, rel_weight, v_weight)


def block_attention(
    x: Tensor, qk_weight: Tensor, rel_weight: Tensor, v_weight: Tensor, block_size: int, max_pool: bool
) -> Tensor:
    """See `sasa.ops.block_attention`; the arguments are valid."""
    arguments = _in_arithmetic(x, qk_weight, rel_weight, v_weight)
    out: Tensor = torch.ops.sasa.block_attention(x, *arguments, block_size, max_pool, is_channels_last(x))
    return out


def block_attention_statistics(
    x: Tensor, qk_weight: Tensor, rel_weight: Tensor, v_weight: Tensor, block_size: int
) -> tuple[Tensor, Tensor, Tensor]:
    """See `sasa.ops.block_attention_statistics`; the arguments are valid."""
    arguments = _in_arithmetic(x, qk_weight, rel_weight, v_weight)
    out: tuple[Tensor, Tensor, Tensor] = torch.ops.sasa.block_attention_statistics(
        x, *arguments, block_size, is_channels_last(x)
    )
    return out


def _in_arithmetic(x: Tensor, *arguments: Tensor) -> list[Tensor]:
    dtype = torch.promote_types(x.dtype, torch.float32)
    return [argument.to(dtype).contiguous() for argument in arguments]
