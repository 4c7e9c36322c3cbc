"""Fused Triton kernels for tensors on a CUDA device; nothing but the arguments is kept for the backward pass.

Nothing here imports triton until a kernel is launched, so that `sasa` imports where it is not installed.
"""

from __future__ import annotations

from importlib.util import find_spec

import torch
from torch import Tensor

from sasa.ops import transforms
from sasa.ops.block_attn.backends.triton import register  # noqa: F401  (adds the kernels to the ops)
from sasa.ops.local_attn.memory_format import is_channels_last

NAME = "triton"

_INSTALLED = find_spec("triton") is not None
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
# Offsets inside an image are 32-bit in the kernels; those of images are 64-bit.
_LARGEST_IMAGE = 2**31
# Channels are unrolled, and a program keeps a block's weights and values in registers.
_CHANNELS, _POSITIONS, _WIDTH = 4, 64, 64


def why_not(x: Tensor, qk_weight: Tensor, rel_weight: Tensor, v_weight: Tensor) -> list[str]:
    """Every reason why this backend cannot run these arguments; empty where it can."""
    reasons = []
    if not _INSTALLED:
        reasons.append("triton is not installed; it comes with torch's CUDA builds")
    if x.device.type != "cuda":
        reasons.append(f"x is on {x.device}, not on a CUDA device")
    elif torch.version.hip is not None:
        reasons.append("this is ROCm's build of torch, for which the kernels are not tested")
    if x.dtype not in _DTYPES:
        reasons.append(f"x has {x.dtype}, not {', '.join(map(str, _DTYPES))}")
    for name, argument in (("qk_weight", qk_weight), ("rel_weight", rel_weight), ("v_weight", v_weight)):
        if argument.dtype == torch.float64:
            reasons.append(f"{name} has {argument.dtype}, more precise than the torch.float32 of the sums")
    positions, outputs = v_weight.shape[:2]
    for what, number, most in (
        ("channels of x", x.shape[1], _CHANNELS),
        ("positions of a block", positions, _POSITIONS),
        ("outputs of a head", outputs // len(qk_weight), _WIDTH),
    ):
        if number > most:
            reasons.append(f"{number} {what} are more than {most}")
    if _extent(x) > _LARGEST_IMAGE:
        reasons.append("an image of x spans more than 2**31 elements")
    if outputs * x.shape[2] * x.shape[3] > _LARGEST_IMAGE:
        reasons.append("an image of the output has more than 2**31 elements")
    if torch.is_grad_enabled() and x.requires_grad:
        reasons.append("x requires a gradient")
    return reasons + transforms.why_not(x, qk_weight, rel_weight, v_weight)


def block_attention(
    x: Tensor, qk_weight: Tensor, rel_weight: Tensor, v_weight: Tensor, block_size: int, max_pool: bool
) -> Tensor:
    """See `sasa.ops.block_attention`; the arguments are valid."""
    arguments = _in_float32(qk_weight, rel_weight, v_weight)
    out: Tensor = torch.ops.sasa.block_attention(x, *arguments, block_size, max_pool, is_channels_last(x))
    return out


def block_attention_statistics(
    x: Tensor, qk_weight: Tensor, rel_weight: Tensor, v_weight: Tensor, block_size: int
) -> tuple[Tensor, Tensor, Tensor]:
    """See `sasa.ops.block_attention_statistics`; the arguments are valid."""
    arguments = _in_float32(qk_weight, rel_weight, v_weight)
    out: tuple[Tensor, Tensor, Tensor] = torch.ops.sasa.block_attention_statistics(
        x, *arguments, block_size, is_channels_last(x)
    )
    return out


def _in_float32(*arguments: Tensor) -> list[Tensor]:
    return [argument.float().contiguous() for argument in arguments]


def _extent(x: Tensor) -> int:
    """Elements from the first of an image to its last."""
    return 1 + sum((n - 1) * s for n, s in zip(x.shape[1:], x.stride()[1:], strict=True))
