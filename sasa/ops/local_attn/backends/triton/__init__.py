"""Fused Triton kernels for tensors on a CUDA device, forward and backward.

Nothing here imports triton until a kernel is launched, so that `sasa` imports where it is not installed.
"""

from __future__ import annotations

from importlib.util import find_spec

import torch
from torch import Tensor

from sasa.ops import transforms
from sasa.ops.local_attn import schema
from sasa.ops.local_attn.backends.triton import register  # noqa: F401  (adds the CUDA kernels to the ops)
from sasa.ops.local_attn.memory_format import is_channels_last
from sasa.ops.local_attn.spec import LocalAttentionSpec

NAME = "triton"

_INSTALLED = find_spec("triton") is not None
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
# Offsets inside an image are 32-bit in the kernels; those of images are 64-bit.
_LARGEST_IMAGE = 2**31


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
    if not _INSTALLED:
        reasons.append("triton is not installed; it comes with torch's CUDA builds")
    if q.device.type != "cuda":
        reasons.append(f"the tensors are on {q.device}, not on a CUDA device")
    elif torch.version.hip is not None:
        reasons.append("this is ROCm's build of torch, for which the kernels are not tested")
    dtypes = {x.dtype for x in (q, k, v) if x is not None}
    if len(dtypes) > 1 or q.dtype not in _DTYPES:
        names = ", ".join(sorted(map(str, dtypes)))
        reasons.append(f"q, k and v are {names}, not all of one of {', '.join(map(str, _DTYPES))}")
    for name, x in (("rel_row", rel_row), ("rel_col", rel_col)):
        if x is not None and x.dtype == torch.float64:
            reasons.append(f"{name} is {x.dtype}, wider than the torch.float32 of the sums")
    for name, x in (("q", q), ("k", k), ("v", v)):
        if x is not None and _extent_of_image(x) > _LARGEST_IMAGE:
            reasons.append(f"an image of {name} spans more than 2**31 elements")
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
    rel_row, rel_col = (None if x is None else x.float().contiguous() for x in (rel_row, rel_col))
    return schema.call(q, k, v, rel_row, rel_col, spec, channels_last=is_channels_last(q))


def _extent_of_image(x: Tensor) -> int:
    """Elements from the first of an image to its last."""
    return 1 + sum((n - 1) * s for n, s in zip(x.shape[1:], x.stride()[1:], strict=True))
