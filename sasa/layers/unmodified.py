"""Whether a module is what it was built as, so that its parameters determine all that it does."""

from __future__ import annotations

from typing import TypeGuard, TypeVar

from torch import nn

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def is_unmodified(module: nn.Module, *classes: type[ModuleT]) -> TypeGuard[ModuleT]:
    """Whether the module is of one of these very classes, without hooks or a forward pass of its own.

    A subclass may do more; parametrizations make one.
    """
    hooks = (
        module._forward_hooks,
        module._forward_pre_hooks,
        module._backward_hooks,
        module._backward_pre_hooks,
    )
    return type(module) in classes and not any(hooks) and "forward" not in vars(module)


def is_pointwise(module: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Whether the module is an unmodified 1 × 1 convolution of all channels."""
    return is_unmodified(module, nn.Conv2d) and (
        (module.kernel_size, module.stride, module.padding, module.groups) == ((1, 1), (1, 1), (0, 0), 1)
    )
