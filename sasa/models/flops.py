"""Parameters and FLOPs of networks, counted by one convention."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from timm.layers.adaptive_avgmax_pool import (
    AdaptiveAvgMaxPool2d,
    AdaptiveCatAvgMaxPool2d,
    FastAdaptiveAvgMaxPool,
    FastAdaptiveAvgPool,
    FastAdaptiveCatAvgMaxPool,
    FastAdaptiveMaxPool,
)
from torch import Tensor, nn


@dataclass(frozen=True)
class Cost:
    """Parameters of a network and FLOPs of its forward pass for one input."""

    parameters: int
    flops: int

    def __str__(self) -> str:
        flops = f"{self.flops / 1e9:.2f} B" if self.flops >= 1e9 else f"{self.flops / 1e6:.1f} M"
        return f"{self.parameters / 1e6:.2f} M parameters, {flops} FLOPs"


def cost(model: nn.Module, input_size: tuple[int, int, int] = (3, 224, 224)) -> Cost:
    """Count the parameters and the FLOPs of a forward pass in evaluation mode.

    A multiplication, addition, comparison or exponential is one FLOP, and the equations are counted as
    written:

    - convolution and linear layers: 2 per weight and output pixel (padding included), 1 per bias and output
      pixel;
    - attention: `sasa.ops.local_attention_flops`, without window positions outside of the map;
    - batch norm: 2 per element; group norm: 7 (mean 1, centering 1, variance 2, scaling 1, weight and bias
      2);
    - ReLU and residual addition: 1 per element;
    - average and maximum pooling, also timm's global pooling: 1 per element of each window (padding
      included).

    Nothing is computed and the model is not changed: a copy runs on the meta device. Modules of other types
    are counted through their children, and through a method `flops(*inputs) -> int` if they have one.

    Args:
        model: A module that maps (B, *input_size) to a tensor. Of its modules without parameters, only those
            listed above are counted.
        input_size: (C, H, W) of one image.

    Raises:
        ValueError: A module has parameters of its own, but no formula and no method `flops`.
    """
    for name, module in model.named_modules():
        has_parameters = any(True for _ in module.parameters(recurse=False))
        if has_parameters and not hasattr(type(module), "flops") and not isinstance(module, tuple(_FLOPS)):
            raise ValueError(
                f"model: expected modules with a FLOP formula, got {name or 'the model'} "
                f"({type(module).__name__}); give it a method flops(*inputs) -> int"
            )
    meta = copy.deepcopy(model).to("meta").eval()
    total = 0

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
        nonlocal total
        # The type and not the module: a compiled module passes on the attributes of the module inside.
        if hasattr(type(module), "flops"):
            total += module.flops(*inputs)  # type: ignore[operator]
            return
        for module_type, formula in _FLOPS.items():
            if isinstance(module, module_type):
                total += formula(module, inputs[0], output)

    for module in meta.modules():
        module.register_forward_hook(count)
    with torch.no_grad():
        dtype = next((p.dtype for p in model.parameters()), torch.float32)
        meta(torch.empty(1, *input_size, device="meta", dtype=dtype))
    return Cost(sum(p.numel() for p in model.parameters()), total)


def _conv_flops(conv: nn.Module, x: Tensor, out: Tensor) -> int:
    assert isinstance(conv, nn.Conv2d)
    return 2 * conv.weight.numel() * (out.numel() // conv.out_channels) + _bias_flops(conv.bias, out)


def _linear_flops(linear: nn.Module, x: Tensor, out: Tensor) -> int:
    assert isinstance(linear, nn.Linear)
    return 2 * linear.in_features * out.numel() + _bias_flops(linear.bias, out)


def _bias_flops(bias: Tensor | None, out: Tensor) -> int:
    return 0 if bias is None else out.numel()


def _pool_flops(pool: nn.Module, x: Tensor, out: Tensor) -> int:
    assert isinstance(pool, (nn.MaxPool2d, nn.AvgPool2d))
    size = pool.kernel_size
    rows, cols = (size, size) if isinstance(size, int) else size
    return rows * cols * out.numel()


# FLOPs by type of module, from the module, its input and its output.
_FLOPS: dict[type[nn.Module], Callable[[nn.Module, Tensor, Tensor], int]] = {
    nn.Conv2d: _conv_flops,
    nn.Linear: _linear_flops,
    nn.BatchNorm2d: lambda module, x, out: 2 * out.numel(),
    nn.GroupNorm: lambda module, x, out: 7 * out.numel(),
    nn.ReLU: lambda module, x, out: out.numel(),
    **dict.fromkeys((nn.MaxPool2d, nn.AvgPool2d), _pool_flops),
    **dict.fromkeys(
        (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, FastAdaptiveAvgPool, FastAdaptiveMaxPool),
        lambda module, x, out: x.numel(),
    ),
    **dict.fromkeys(
        (AdaptiveAvgMaxPool2d, AdaptiveCatAvgMaxPool2d, FastAdaptiveAvgMaxPool, FastAdaptiveCatAvgMaxPool),
        lambda module, x, out: 2 * x.numel(),
    ),
}
