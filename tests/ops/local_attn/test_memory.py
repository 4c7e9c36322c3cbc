"""What is kept for the backward pass: weights at most, never keys or values once a window position."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .plain import Unfolded
from .runners import Runner

BATCH, HEADS, WIDTH, SIDE, KERNEL = 2, 2, 16, 12, 7


def kept(op: Any, args: tuple[Tensor, ...]) -> int:
    """Bytes of all memory that the backward pass holds on to, each piece once; the arguments are free."""
    leaves = [x.detach().requires_grad_() for x in args]
    free = {x.untyped_storage().data_ptr() for x in leaves}
    storages: dict[int, torch.UntypedStorage] = {}

    def pack(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in free:
            storages[storage.data_ptr()] = storage  # held, so that no later one has its address
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        out = op(*leaves, num_heads=HEADS, kernel_size=(KERNEL, KERNEL), pool=2)
    out.sum().backward()
    return sum(storage.nbytes() for storage in storages.values())


def problem(runner: Runner) -> tuple[tuple[Tensor, ...], int]:
    """Arguments, and the bytes of one number for every image, head and pixel."""
    args = runner.inputs(
        SIDE,
        SIDE,
        batch=BATCH,
        heads=HEADS,
        head_dim=WIDTH,
        value_head_dim=WIDTH,
        kernel=(KERNEL, KERNEL),
    )
    return args, BATCH * HEADS * SIDE * SIDE * args[0].element_size()


def bound(number: int) -> float:
    """Twice the K weights, a bool mask among them, and four maps of width D padded for the window.

    Measured: the reference keeps 155 numbers for every head and pixel, where 242 are allowed and unfolding
    keeps 1,653.
    """
    padded = (SIDE + KERNEL - 1) ** 2 / SIDE**2
    return number * (2 * KERNEL**2 + 4 * WIDTH * padded)


def test_no_unfolded_keys_or_values(runner: Runner) -> None:
    args, number = problem(runner)
    assert kept(runner, args) <= bound(number)


def test_unfolding_would_be_noticed(runner: Runner) -> None:
    """Keys and values once for each of the K positions are far beyond the bound."""
    args, number = problem(runner)
    assert kept(Unfolded(), args) >= 2 * KERNEL**2 * WIDTH * number > 5 * bound(number)
