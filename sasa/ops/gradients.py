"""Whether the result of an op has to have a gradient: the one place that decides it."""

from __future__ import annotations

import torch
from torch import Tensor


def wants_gradient(*tensors: Tensor | None) -> bool:
    """Whether autograd may ask for the gradient of one of these tensors.

    What is traced by `torch.jit.trace` or exported runs later, in any mode, so the tensors alone decide then.
    """
    recorded = torch.is_grad_enabled() or torch.jit.is_tracing() or torch.compiler.is_exporting()
    return recorded and any(x is not None and x.requires_grad for x in tensors)
