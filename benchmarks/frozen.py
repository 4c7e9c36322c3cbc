"""torch.compile with Inductor's freezing, the fastest form of a network in PyTorch on a CPU."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch._inductor.config
from torch import Tensor, nn


def frozen(module: nn.Module, x: Tensor) -> Callable[[Tensor], Tensor]:
    """Compile a module for inputs like x, with folded batch norms and packed weights.

    Call this function and its result under the same no_grad and autocast. A graph break is an error. The
    option is patched for the first call, because torch 2.15 accepts
    `torch.compile(..., options={"freezing": True})` without freezing.
    """
    with torch._inductor.config.patch(freezing=True):
        compiled = torch.compile(module, dynamic=False, fullgraph=True)
        compiled(x)
    return compiled
