"""Casts of the ops under autocast."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def autocasts(x: Tensor) -> bool:
    """Whether autocast is on for x's device."""
    device = x.device.type
    # "meta" has no autocast; torch.amp.is_autocast_available knows it, but breaks full graphs in torch 2.11.
    return device != "meta" and torch.is_autocast_enabled(device)


def cast(x: Tensor) -> Tensor:
    """Cast as autocast casts the arguments of a matrix product: float64 is left alone."""
    if not autocasts(x) or x.dtype == torch.float64:
        return x
    return x.to(torch.get_autocast_dtype(x.device.type))


def autocast_off(x: Tensor) -> AbstractContextManager[None]:
    """For code that chooses the precision of its sums itself."""
    return torch.autocast(x.device.type, enabled=False) if autocasts(x) else nullcontext()
