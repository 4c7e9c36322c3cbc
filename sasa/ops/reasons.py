"""Reasons why a backend cannot run, shared by the ops; lists that are empty if there are none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.util import find_spec

import torch
from torch import Tensor

from sasa.ops import cpu_extension
from sasa.ops.dtypes import arithmetic_dtype
from sasa.ops.gradients import wants_gradient

_TRITON_INSTALLED = find_spec("triton") is not None
# Offsets inside an image are 32-bit in the Triton kernels; those of images are 64-bit.
LARGEST_IMAGE = 2**31


def cpu_kernels(device: torch.device) -> list[str]:
    """Why the C++ kernels cannot run on a device; on "meta", the ops' fake kernels answer."""
    reasons = [] if cpu_extension.is_available() else [cpu_extension.MISSING]
    if device.type not in ("cpu", "meta"):
        reasons.append(f"the tensors are on {device}, not on a CPU")
    return reasons


def triton_kernels(device: torch.device) -> list[str]:
    """Why the Triton kernels cannot run on a device."""
    reasons = [] if _TRITON_INSTALLED else ["triton is not installed; it comes with torch's CUDA builds"]
    if device.type != "cuda":
        reasons.append(f"the tensors are on {device}, not on a CUDA device")
    elif torch.version.hip is not None:
        reasons.append("this is ROCm's build of torch, for which the kernels are not tested")
    return reasons


def dtypes(names: str, maps: Iterable[Tensor], supported: tuple[torch.dtype, ...]) -> list[str]:
    """Why maps cannot have their dtypes: they need the same one, and a kernel has to support it."""
    found = {x.dtype for x in maps}
    if len(found) == 1 and found.issubset(supported):
        return []
    given = ", ".join(sorted(map(str, found)))
    return [f"{names} {given}, not all of one of {', '.join(map(str, supported))}"]


def precision(learned: Mapping[str, Tensor | None], map_dtype: torch.dtype) -> list[str]:
    """Which learned arguments are more precise than the sums that a kernel computes for maps of a dtype."""
    arithmetic = arithmetic_dtype(map_dtype)
    return [
        f"{name} is {x.dtype}, wider than the {arithmetic} of the sums"
        for name, x in learned.items()
        if x is not None and torch.promote_types(x.dtype, arithmetic) != arithmetic
    ]


def image_sizes(maps: Mapping[str, Tensor | None]) -> list[str]:
    """Which maps are too large for the Triton kernels."""
    return [
        f"an image of {name} spans more than 2**31 elements"
        for name, x in maps.items()
        if x is not None and _extent_of_image(x) > LARGEST_IMAGE
    ]


def gradient(name: str, *tensors: Tensor | None) -> list[str]:
    """Why a kernel without that gradient cannot run, if it is wanted."""
    return [f"a gradient of {name} is wanted"] if wants_gradient(*tensors) else []


def _extent_of_image(x: Tensor) -> int:
    """Elements from the first of an image to its last."""
    return 1 + sum((n - 1) * s for n, s in zip(x.shape[1:], x.stride()[1:], strict=True))
