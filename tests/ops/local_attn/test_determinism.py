"""The same inputs give the same bits, forward and backward, whatever the threads and what memory held."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from .cases import Case
from .runners import RUNNERS, Runner

CPU_RUNNERS = [runner for runner in RUNNERS if runner.device == "cpu"]
FUSED_RUNNERS = [runner for runner in CPU_RUNNERS if runner.backend != "reference"]


@pytest.fixture
def restored_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def results(runner: Runner, args: tuple[Tensor | None, ...], **options: Any) -> list[Tensor]:
    """The output and the gradients of all arguments."""
    leaves = [x if x is None else x.detach().requires_grad_() for x in args]
    out = runner(*leaves, **({"num_heads": 4, "kernel_size": 3, "pool": 2} | options))
    given = [x for x in leaves if x is not None]
    return [out, *torch.autograd.grad(out.square().sum(), given)]


def assert_same_bits(first: list[Tensor], second: list[Tensor]) -> None:
    for x, y in zip(first, second, strict=True):
        assert torch.equal(x, y)


def test_two_runs(runner: Runner) -> None:
    args = runner.inputs(15, 14, heads=4, head_dim=8)
    assert_same_bits(results(runner, args), results(runner, args))


@pytest.mark.parametrize("runner", CPU_RUNNERS, ids=str, indirect=True)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.usefixtures("restored_threads")
def test_one_and_two_threads(runner: Runner, dtype: torch.dtype) -> None:
    """Maps of 100,000 numbers: PyTorch divides the work from 32,768 on."""
    args = runner.inputs(29, 30, heads=4, head_dim=16, value_head_dim=16)
    args = tuple(x.to(dtype) for x in args)
    runs = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        runs.append(results(runner, args))
    assert_same_bits(*runs)


@pytest.mark.parametrize("runner", FUSED_RUNNERS, ids=str, indirect=True)
@pytest.mark.parametrize("seed", range(12))
@pytest.mark.usefixtures("restored_threads")
def test_any_number_of_threads(runner: Runner, seed: int) -> None:
    """Larger cases: five times the 200,000 multiply-adds that the "cpu" backend gives a thread, or more."""
    case = Case.draw_large(seed)
    runs = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        runs.append(results(runner, case.tensors(runner.device), **case.options()))
    assert_same_bits(runs[0], runs[1])
    assert_same_bits(runs[0], runs[2])


@pytest.fixture
def new_memory_is_nan() -> Iterator[None]:
    """torch.empty gives NaN, in operators written in C++ too."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.usefixtures("new_memory_is_nan")
def test_everything_is_written(runner: Runner, seed: int) -> None:
    """Nothing that happened to be in the memory of a result is left there."""
    assert torch.empty(3).isnan().all()
    for case in (Case.draw(seed), Case.draw_large(seed)):
        precise = case.dtype.itemsize > runner.dtype.itemsize
        dtype = runner.dtype if precise or case.dtype == torch.float16 else case.dtype
        args = tuple(None if x is None else x.to(dtype) for x in case.tensors(runner.device))
        assert all(x.isfinite().all() for x in results(runner, args, **case.options()))
