"""The same inputs give the same bits, forward and backward."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from .runners import RUNNERS, Runner

CPU_RUNNERS = [runner for runner in RUNNERS if runner.device == "cpu"]


@pytest.fixture
def restored_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def results(runner: Runner, args: tuple[Tensor, ...]) -> list[Tensor]:
    """The output and the gradients of all arguments."""
    leaves = [x.detach().requires_grad_() for x in args]
    out = runner(*leaves, num_heads=4, kernel_size=3, pool=2)
    return [out, *torch.autograd.grad(out.square().sum(), leaves)]


def assert_same_bits(first: list[Tensor], second: list[Tensor]) -> None:
    for x, y in zip(first, second, strict=True):
        assert torch.equal(x, y)


def test_two_runs(runner: Runner) -> None:
    args = runner.inputs(15, 14, heads=4, width=8)
    assert_same_bits(results(runner, args), results(runner, args))


@pytest.mark.parametrize("runner", CPU_RUNNERS, ids=str, indirect=True)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.usefixtures("restored_threads")
def test_one_and_two_threads(runner: Runner, dtype: torch.dtype) -> None:
    """Maps of 100,000 numbers: PyTorch divides the work from 32,768 on."""
    if dtype.itemsize > runner.dtype.itemsize:
        return  # more precise than the backend
    args = runner.inputs(29, 30, heads=4, width=16, value_width=16)
    args = tuple(x.to(dtype) for x in args)
    runs = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        runs.append(results(runner, args))
    assert_same_bits(*runs)
