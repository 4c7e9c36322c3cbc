"""torch.compile with Inductor's freezing: the fastest that stock PyTorch makes of a network on a CPU."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch._inductor.config
from torch import Tensor, nn


def frozen(module: nn.Module, x: Tensor) -> Callable[[Tensor], Tensor]:
    """The module compiled for inputs like x, its batch norms folded and its weights packed.

    Call it, and what it returns, under the same no_grad and autocast. A graph break is an error. The option
    is patched around the first call: `torch.compile(..., options={"freezing": True})` is accepted by
    torch 2.15 and does not freeze.
    """
    with torch._inductor.config.patch(freezing=True):
        compiled = torch.compile(module, dynamic=False, fullgraph=True)
        compiled(x)
    return compiled
