"""Local self-attention as layers call it: one kernel, or projections and then `local_attention`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sasa.ops import compiled, transforms
from sasa.ops.autocast import cast
from sasa.ops.local_attn.api import check_backend, check_tensor, local_attention, validate
from sasa.ops.local_attn.backends import cpu
from sasa.ops.local_attn.memory_format import is_channels_last
from sasa.ops.local_self_attn import schema


def local_self_attention(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    rel_row: Tensor | None = None,
    rel_col: Tensor | None = None,
    *,
    num_heads: int,
    kernel_size: int | tuple[int, int] = 7,
    dilation: int | tuple[int, int] = 1,
    scale: float = 1.0,
    pool: int = 1,
    content: bool = True,
    relu: bool = False,
    backend: str = "auto",
) -> Tensor:
    """`sasa.local_attention` of queries, keys and values that are pointwise projections of x.

    On a CPU, where no gradient is wanted, the "cpu" backend projects the rows that a strip of queries needs
    when it needs them, so q, k and v are never in memory (bfloat16: where the machine multiplies it,
    AVX512_BF16). Everywhere else this is a convolution and then `local_attention`; both give the same to
    rounding.

    Args:
        x: The map (B, C, H, W), float16, bfloat16, float32 or float64, any strides.
        weight: Of a 1 × 1 convolution, (3·N·D, C, 1, 1): the rows of q, then those of k, then those of v.
            With content=False there are none of k, (2·N·D, C, 1, 1). Of x's dtype, unless autocast is on.
        bias: (3·N·D,) or (2·N·D,), or None. Of x's dtype, unless autocast is on.
        rel_row: As in `sasa.local_attention`.
        rel_col: As in `sasa.local_attention`.
        num_heads: N.
        kernel_size: As in `sasa.local_attention`.
        dilation: As in `sasa.local_attention`.
        scale: As in `sasa.local_attention`.
        pool: As in `sasa.local_attention`.
        content: Whether there are keys; without them the logit is q·r alone (Table 6).
        relu: As in `sasa.local_attention`.
        backend: As in `sasa.local_attention`.

    Returns:
        (B, N·D, ceil(H/pool), ceil(W/pool)) in the dtype and memory format that a convolution would give.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument has a wrong value, shape or device, or the named backend cannot run them.
    """
    parts = 3 if content else 2
    _check_shapes(x, weight, bias, parts)
    if not content and rel_row is None and rel_col is None:
        raise ValueError("content: False leaves no logit without rel_row or rel_col; give an embedding")
    x, weight, bias = cast(x), cast(weight), None if bias is None else cast(bias)
    for name, t in (("weight", weight), ("bias", bias)):
        if t is not None and t.dtype != x.dtype:
            raise TypeError(f"{name}: expected {x.dtype} as x has, got {t.dtype}; convert one of them first")
    channels = weight.shape[0] // parts
    check_backend(backend)
    if backend in ("auto", cpu.NAME):
        q = x.new_empty(1).expand(x.shape[0], channels, *x.shape[2:])  # stands for q, k and v
        k = q if content else None
        spec = validate(q, k, q, rel_row, rel_col, num_heads, kernel_size, dilation, scale, pool, relu)
        embeddings = [t for t in (rel_row, rel_col) if t is not None]
        if _can_fuse(x, weight, bias, embeddings) and not cpu.why_not(q, k, q, rel_row, rel_col, spec):
            channels_last = is_channels_last(x) or is_channels_last(weight)
            return schema.call(
                x, weight, bias, rel_row, rel_col, spec, content=content, channels_last=channels_last
            )
    q, *keys, v = F.conv2d(x, weight, bias).split(channels, dim=1)
    return local_attention(
        q,
        keys[0] if content else None,
        v,
        rel_row,
        rel_col,
        num_heads=num_heads,
        kernel_size=kernel_size,
        dilation=dilation,
        scale=scale,
        pool=pool,
        relu=relu,
        backend=backend,
    )


def _check_shapes(x: Tensor, weight: Tensor, bias: Tensor | None, parts: int) -> None:
    """Raise as `local_self_attention` does for what it projects and by what."""
    for name, t in (("x", x), ("weight", weight), ("bias", bias)):
        if t is not None or name != "bias":
            check_tensor(name, t, "x", x)
    if x.ndim != 4 or x.shape[1] == 0 or x.shape[2] == 0 or x.shape[3] == 0:
        raise ValueError(f"x: expected (B, C, H, W) with C, H, W ≥ 1, got {tuple(x.shape)}")
    rows = weight.shape[0] if weight.ndim == 4 else 0
    if rows == 0 or rows % parts or weight.shape[1:] != (x.shape[1], 1, 1):
        raise ValueError(
            f"weight: expected ({parts}·N·D, C, 1, 1) for x of (B, C, H, W), "
            f"got {tuple(weight.shape)} and {tuple(x.shape)}"
        )
    if bias is not None and bias.shape != (rows,):
        raise ValueError(f"bias: expected ({rows},) as weight has rows, got {tuple(bias.shape)}")


def _can_fuse(x: Tensor, weight: Tensor, bias: Tensor | None, embeddings: list[Tensor]) -> bool:
    """Whether the kernel's projections are right for these, whatever the attention needs."""
    learned = [weight] if bias is None else [weight, bias]
    return (
        x.device.type == "cpu"
        and all(t.dtype == x.dtype and t.device == x.device for t in learned)
        and (x.dtype != torch.bfloat16 or compiled.multiplies_bfloat16())
        and not (torch.is_grad_enabled() and any(t.requires_grad for t in (x, *learned, *embeddings)))
        and not transforms.why_not(x, *learned)
    )
