"""Whether a module does what its class and weights say."""

from __future__ import annotations

from torch import nn


def is_untouched(module: nn.Module) -> bool:
    """No hook and no other forward pass on this very module."""
    hooks = (
        module._forward_hooks,
        module._forward_pre_hooks,
        module._backward_hooks,
        module._backward_pre_hooks,
    )
    return not any(hooks) and "forward" not in vars(module)
