"""First and second derivatives against finite differences, in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

import sasa

from .cases import LAYOUTS, arrange
from .runners import RUNNERS, Runner

PRECISE = [runner for runner in RUNNERS if runner.dtype == torch.float64]

# Size of the map, then options: kernel, dilation, scale, pool, relu, and the arguments left out.
CASES: dict[str, tuple[tuple[int, int], dict[str, Any]]] = {
    "plain": ((3, 3), {}),
    "no_k": ((3, 3), {"without": ["k"]}),
    "no_embeddings": ((3, 2), {"without": ["row", "col"]}),
    "rows_only": ((3, 2), {"without": ["col"]}),
    "columns_only_no_k": ((2, 3), {"without": ["k", "row"]}),
    "pool_odd": ((3, 5), {"pool": 2, "batch": 1}),
    "pool_one_row": ((1, 3), {"pool": 2}),
    "dilated": ((5, 4), {"dilation": (2, 3), "batch": 1}),
    "rectangular": ((2, 4), {"kernel": (1, 5), "dilation": (3, 1)}),
    "scaled": ((2, 3), {"scale": -0.37}),
    "window_larger_than_map": ((2, 1), {"kernel": (7, 5)}),
    "relu": ((3, 3), {"relu": True}),
    "relu_pool_no_k": ((3, 5), {"relu": True, "pool": 2, "without": ["k"], "batch": 1}),
    "one_pixel": ((1, 1), {"batch": 1}),
}


def problem(
    runner: Runner,
    size: tuple[int, int],
    *,
    kernel: tuple[int, int] = (3, 3),
    without: list[str] | None = None,
    batch: int = 2,
    **options: Any,
) -> tuple[Callable[..., Tensor], list[Tensor]]:
    """The op as a function of the tensors that are given, and these."""
    names = ["q", "k", "v", "row", "col"]
    tensors = dict(
        zip(
            names, runner.inputs(*size, batch=batch, head_dim=2, value_head_dim=1, kernel=kernel), strict=True
        )
    )
    given = [name for name in names if name not in (without or [])]

    def op(*xs: Tensor) -> Tensor:
        arguments = dict(zip(given, xs, strict=True))
        return runner(*(arguments.get(name) for name in names), num_heads=2, kernel_size=kernel, **options)

    return op, [tensors[name].requires_grad_() for name in given]


@pytest.mark.parametrize("runner", PRECISE, ids=str, indirect=True)
@pytest.mark.parametrize("name", CASES)
def test_first_derivatives(runner: Runner, name: str) -> None:
    size, options = CASES[name]
    assert gradcheck(*problem(runner, size, **options))


@pytest.mark.parametrize("runner", PRECISE, ids=str, indirect=True)
@pytest.mark.parametrize("name", CASES)
def test_second_derivatives(runner: Runner, name: str) -> None:
    size, options = CASES[name]
    op, tensors = problem(runner, size, **options)
    assert gradgradcheck(op, tensors, fast_mode=True)


@pytest.mark.parametrize("runner", PRECISE, ids=str, indirect=True)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_derivatives_through_layouts(runner: Runner, layout: str) -> None:
    """Also where the maps are views of the tensors derived for; expanded ones add up their copies."""
    op, tensors = problem(runner, (3, 2), pool=2, batch=1)

    def arranged(q: Tensor, k: Tensor, v: Tensor, row: Tensor, col: Tensor) -> Tensor:
        maps = (arrange(x, layout) for x in (q, k, v))
        return op(*maps, row.mT.contiguous().mT, col)

    assert gradcheck(arranged, tensors)
    assert gradgradcheck(arranged, tensors, fast_mode=True)


@pytest.mark.parametrize("wanted", range(5), ids=["q", "k", "v", "rel_row", "rel_col"])
def test_each_gradient_alone(runner: Runner, wanted: int) -> None:
    """The same as among all, where only one argument requires it."""
    args = runner.inputs(4, 3)
    alone = [x.clone().requires_grad_(index == wanted) for index, x in enumerate(args)]
    together = [x.clone().requires_grad_() for x in args]
    for tensors in (alone, together):
        runner(*tensors, num_heads=2, kernel_size=3).square().sum().backward()
    assert [x.grad is not None for x in alone] == [index == wanted for index in range(5)]
    runner.assert_close(alone[wanted].grad, together[wanted].grad)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # by torch.func itself
def test_function_transforms(runner: Runner) -> None:
    """Auto differentiates as the reference does; a backend that cannot says so."""
    q, k, v, *_ = (x.cpu() for x in runner.inputs(4, 5))
    options = {"num_heads": 2, "kernel_size": 3}

    def attend(q: Tensor, backend: str) -> Tensor:
        return sasa.local_attention(q, k, v, **options, backend=backend)

    for transformed in (
        lambda backend: torch.func.jvp(lambda q: attend(q, backend), (q,), (torch.ones_like(q),))[1],
        lambda backend: torch.func.grad(lambda q: attend(q, backend).square().sum())(q),
    ):
        torch.testing.assert_close(transformed("auto"), transformed("reference"), rtol=0, atol=0)
        if runner.backend != "reference":
            with pytest.raises(ValueError, match=r"torch\.func transforms it"):
                transformed(runner.backend)
