"""Local attention by definition, in plain, traceable, twice differentiable PyTorch.

Shapes: B batch, N heads, D width of a query and key head, Dv of a value head, H × W the map,
K = kh·kw window positions.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sasa.ops.local_attn.inputs import LocalAttentionInputs
from sasa.ops.local_attn.spec import LocalAttentionSpec

NAME = "reference"


def why_not(inputs: LocalAttentionInputs) -> list[str]:
    """No reason: this backend runs all inputs."""
    return []


def local_attention(inputs: LocalAttentionInputs) -> Tensor:
    """Eq. 3 of Ramachandran et al. (2019); see `sasa.local_attention`."""
    spec = inputs.spec
    weights = attention_weights(inputs)  # (B, N, K, H, W)
    values = _shifted(inputs.v.to(weights.dtype), spec)  # K of (B, N, Dv, H, W)
    out = torch.zeros_like(values[0])
    # Copies: of views, torch 2.15's Inductor overwrites the memory in the backward pass before its last use.
    copies: tuple[Tensor, ...] = torch.unbind_copy(weights, 2)  # type: ignore[func-returns-value, assignment]
    for weight, value in zip(copies, values, strict=True):
        out = out + weight.unsqueeze(2) * value
    out = out.flatten(1, 2)
    if spec.pool > 1:
        # Without count_include_pad=False the compiled gradient of a partial block is wrong: pytorch#198119.
        out = F.avg_pool2d(out, spec.pool, ceil_mode=True, count_include_pad=False)
    return (out.relu() if spec.relu else out).to(inputs.v.dtype)


def attention_weights(inputs: LocalAttentionInputs) -> Tensor:
    """The softmax of Eq. 3, (B, N, K, H, W), in at least float32; zero outside the map.

    K runs over the window row by row.
    """
    q, k, rel_row, rel_col = inputs.q, inputs.k, inputs.rel_row, inputs.rel_col
    spec, dtype = inputs.spec, torch.float32
    for x in (q, k, rel_row, rel_col):
        if x is not None:
            dtype = torch.promote_types(dtype, x.dtype)
    num_rows, num_cols = spec.kernel_size
    query = q.to(dtype).unflatten(1, (spec.num_heads, -1))  # (B, N, D, H, W)
    half = query.shape[2] // 2

    if k is None:
        logits = [torch.zeros_like(query[:, :, 0])] * (num_rows * num_cols)
    else:
        logits = [(query * key).sum(2) for key in _shifted(k.to(dtype), spec)]
    if rel_row is not None:
        by_row = torch.einsum("bndhw,nkd->kbnhw", query[:, :, :half], rel_row.to(dtype))
        logits = [logit + by_row[t // num_cols] for t, logit in enumerate(logits)]
    if rel_col is not None:
        by_col = torch.einsum("bndhw,nkd->kbnhw", query[:, :, half:], rel_col.to(dtype))
        logits = [logit + by_col[t % num_cols] for t, logit in enumerate(logits)]

    scaled = spec.scale * torch.stack(logits, 2)
    outside = ~_inside(spec, q.shape[2], q.shape[3], q.device)
    return scaled.masked_fill(outside, -torch.inf).softmax(2)


def _shifted(x: Tensor, spec: LocalAttentionSpec) -> list[Tensor]:
    """For each window position, the map that holds at every pixel its neighbor there, or zero.

    (B, N·D, H, W) to K views of (B, N, D, H, W).
    """
    height, width = x.shape[-2:]
    (rh, rw), (dh, dw) = spec.radius, spec.dilation
    padded = F.pad(x, (rw, rw, rh, rh)).unflatten(1, (spec.num_heads, -1))
    # Rows first: the gradient of a view fills what it left out with zeros, and a row leaves out less.
    rows = [padded[..., a * dh : a * dh + height, :] for a in range(spec.kernel_size[0])]
    return [row[..., b * dw : b * dw + width] for row in rows for b in range(spec.kernel_size[1])]


def _inside(spec: LocalAttentionSpec, height: int, width: int, device: torch.device) -> Tensor:
    """Whether each window position of each pixel lies inside the map: bool (K, H, W)."""
    inside = []
    for size, k, d in zip((height, width), spec.kernel_size, spec.dilation, strict=True):
        taps = (torch.arange(k, device=device) - k // 2) * d
        position = taps[:, None] + torch.arange(size, device=device)
        inside.append((position >= 0) & (position < size))
    rows, cols = inside
    return (rows[:, None, :, None] & cols[None, :, None, :]).flatten(0, 1)
