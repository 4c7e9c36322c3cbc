"""The definition of right: attention inside squares in plain, traceable, twice differentiable PyTorch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sasa.ops.square_attention.squares import from_squares, softmax_inside, to_squares

NAME = "reference"


def why_not(x: Tensor, forms: Tensor, relative: Tensor, matrices: Tensor) -> list[str]:
    """The reasons why this backend cannot run these arguments: none, ever."""
    return []


def square_attention(
    x: Tensor, forms: Tensor, relative: Tensor, matrices: Tensor, block: int, pool: bool
) -> Tensor:
    """See `sasa.ops.square_attention`; the arguments are valid."""
    out = _outputs(x, forms, relative, matrices, block)
    return (F.max_pool2d(out, block, ceil_mode=True) if pool else out).to(x.dtype)


def square_attention_statistics(
    x: Tensor, forms: Tensor, relative: Tensor, matrices: Tensor, block: int
) -> tuple[Tensor, Tensor, Tensor]:
    """See `sasa.ops.square_attention_statistics`; the arguments are valid."""
    out = _outputs(x, forms, relative, matrices, block)
    maximum = F.max_pool2d(out, block, ceil_mode=True)
    return maximum.to(x.dtype), out.mean((0, 2, 3)), out.var((0, 2, 3), correction=0)


def _outputs(x: Tensor, forms: Tensor, relative: Tensor, matrices: Tensor, block: int) -> Tensor:
    """(B, O, H, W) in at least float32."""
    weights = attention_weights(x, forms, relative, block)  # (B, L, N, P, P)
    dtype = torch.promote_types(weights.dtype, matrices.dtype)
    values = torch.einsum("bclp,poc->blpo", to_squares(x.to(dtype), block), matrices.to(dtype))
    heads = values.unflatten(-1, (len(forms), -1))  # (B, L, P, N, D)
    out = torch.einsum("blnij,bljnd->blind", weights.to(dtype), heads).flatten(-2)
    return from_squares(out, block, *x.shape[2:])


def attention_weights(x: Tensor, forms: Tensor, relative: Tensor, block: int) -> Tensor:
    """The softmax inside each of the L squares in at least float32, (B, L, N, P, P)."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    for argument in (forms, relative):
        dtype = torch.promote_types(dtype, argument.dtype)
    pixels = to_squares(x.to(dtype), block)  # (B, C, L, P)
    queries = torch.einsum("bcli,ncd->blnid", pixels, forms.to(dtype))
    content = torch.einsum("blnid,bdlj->blnij", queries, pixels)
    logits = content + torch.einsum("bcli,ncij->blnij", pixels, relative.to(dtype))
    return softmax_inside(logits, block, *x.shape[2:])
