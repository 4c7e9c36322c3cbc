"""Checks of arguments that several ops share; the errors are those that each op documents."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sasa.errors import require
from sasa.ops.dtypes import DTYPES


def check_tensors(tensors: dict[str, Any], *, optional: tuple[str, ...] = ()) -> None:
    """Raise unless all are dense floating-point tensors on the device of the first.

    Args:
        tensors: The arguments by name.
        optional: Names of those that may be None.

    Raises:
        TypeError: An argument is no tensor, sparse or not of a floating dtype.
        ValueError: An argument is on another device than the first.
    """
    first_name, first = next(iter(tensors.items()))
    for name, x in tensors.items():
        if x is None and name in optional:
            continue
        if not isinstance(x, Tensor):
            raise TypeError(f"{name}: expected a torch.Tensor, got {type(x).__name__}")
        if x.dtype not in DTYPES or x.layout != torch.strided:
            raise TypeError(
                f"{name}: expected a floating dtype ({', '.join(map(str, DTYPES))}) and dense, "
                f"got {x.dtype}, {x.layout}; convert it first"
            )
        if x.device != first.device:
            raise ValueError(f"{name}: expected device {first.device} as {first_name} has, got {x.device}")


def check_map(name: str, x: Tensor) -> None:
    """Raise ValueError unless x is (B, C, H, W) with at least one channel, row and column."""
    if x.ndim != 4 or x.shape[1] == 0 or x.shape[2] == 0 or x.shape[3] == 0:
        raise ValueError(f"{name}: expected (B, C, H, W) with C, H, W ≥ 1, got {tuple(x.shape)}")


def check_bool(name: str, value: Any) -> bool:
    """The value, if it is a bool.

    Raises:
        TypeError: It is none.
    """
    if not isinstance(value, bool):
        raise TypeError(f"{name}: expected a bool, got {type(value).__name__} {value!r}")
    return value


def positive_int(name: str, value: Any) -> int:
    """The value, if it is an int of at least 1.

    Raises:
        TypeError: It is no int.
        ValueError: It is less than 1.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}: expected an int, got {type(value).__name__} {value!r}")
    if value < 1:
        raise ValueError(f"{name}: expected at least 1, got {value}")
    return value


def pair(name: str, value: Any) -> tuple[int, int]:
    """Two positive ints: the value itself, or twice the value.

    Raises:
        TypeError: A number is no int.
        ValueError: A number is less than 1, or there are not two.
    """
    if isinstance(value, (tuple, list)):
        require(len(value) == 2, name, "an int or a pair", value)
        return positive_int(name, value[0]), positive_int(name, value[1])
    size = positive_int(name, value)
    return size, size
