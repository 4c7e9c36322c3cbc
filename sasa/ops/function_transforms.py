"""PyTorch's function transforms, in which the compiled ops do not take part."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad


def why_not(*tensors: Tensor | None) -> list[str]:
    """The reason why a compiled op cannot take these tensors, if one of them is inside a transform.

    Forward-mode differentiation passes over an op that has no rule for it: its tangents would be zero.
    """
    if torch.compiler.is_compiling():
        return []
    given = [x for x in tensors if x is not None]
    if any(torch._C._functorch.is_functorch_wrapped_tensor(x) for x in given):
        return ["torch.func transforms it (grad, vmap, jvp, …)"]
    if forward_ad._current_level >= 0 and any(forward_ad.unpack_dual(x).tangent is not None for x in given):
        return ["forward-mode differentiation runs through it"]
    return []
