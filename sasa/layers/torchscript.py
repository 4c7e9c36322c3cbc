"""What TorchScript, deprecated in torch but part of timm's contract, makes of our layers."""

import torch
from torch import Tensor, nn


def called_in_python(layer: nn.Module) -> nn.Module:
    """What stands for the layer in a scripted network and calls it back in Python; it cannot be saved.

    Layers return it from ``__prepare_scriptable__``, the hook of ``torch.jit.script``.
    """

    class CalledInPython(nn.Module):
        @torch.jit.ignore
        def forward(self, x: Tensor) -> Tensor:
            return layer(x)

    return CalledInPython()
