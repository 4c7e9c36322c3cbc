"""`local_attention_maps`: the weights, for pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sasa import local_attention
from sasa.ops import local_attention_maps

from . import oracle
from .runners import Runner

WINDOW = {"num_heads": 2, "kernel_size": (3, 5), "dilation": (2, 1), "scale": 0.7}


@pytest.fixture
def args() -> tuple[torch.Tensor, ...]:
    """q, k, v, rel_row, rel_col in float64."""
    runner = Runner("reference", "cpu", torch.float64, torch.Generator().manual_seed(0))
    return runner.inputs(5, 7, kernel=(3, 5))


def apply(maps: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Σ maps · v in loops over the window; what lies outside has to have no weight."""
    out = np.zeros(v.shape)
    window = oracle.Window(heads=2, kernel=(3, 5), dilation=(2, 1))
    weights, values = maps.numpy().copy(), v.numpy()
    for i, j in np.ndindex(v.shape[2:]):
        for a, b, y, x in oracle.places_inside(*v.shape[2:], window, i, j):
            for head in range(2):
                own = slice(3 * head, 3 * head + 3)
                out[:, own, i, j] += weights[:, head, i, j, a, b, None] * values[:, own, y, x]
            weights[:, :, i, j, a, b] = 0
    assert not weights.any()
    return torch.from_numpy(out)


@pytest.mark.parametrize("without", [(), (1,), (3,), (3, 4)])
def test_maps_applied_to_v_are_the_output(args: tuple[torch.Tensor, ...], without: tuple[int, ...]) -> None:
    given = [None if index in without else x for index, x in enumerate(args)]
    q, k, v, row, col = given
    maps = local_attention_maps(q, k, row, col, **WINDOW)
    assert maps.shape == (2, 2, 5, 7, 3, 5)
    assert (maps >= 0).all()
    torch.testing.assert_close(maps.sum((-1, -2)), torch.ones(2, 2, 5, 7).double(), rtol=0, atol=1e-14)
    out = local_attention(q, k, v, row, col, **WINDOW)
    torch.testing.assert_close(apply(maps, v), out, rtol=0, atol=1e-14)


def test_pooled_maps_are_means_of_the_maps_of_a_block(args: tuple[torch.Tensor, ...]) -> None:
    q, k, _, row, col = args
    fine = local_attention_maps(q, k, row, col, **WINDOW)
    pooled = local_attention_maps(q, k, row, col, **WINDOW, pool=2)
    assert pooled.shape == (2, 2, 3, 4, 3, 5)
    for i, j in np.ndindex(3, 4):
        block = fine[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean((2, 3))
        torch.testing.assert_close(pooled[:, :, i, j], block, rtol=0, atol=1e-15)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_at_least_float32(args: tuple[torch.Tensor, ...], dtype: torch.dtype) -> None:
    q, k, _, row, col = (x.to(dtype) for x in args)
    maps = local_attention_maps(q, k, row, col, **WINDOW)
    assert maps.dtype == torch.float32
    exact = local_attention_maps(*(x.double() for x in (q, k, row, col)), **WINDOW)
    torch.testing.assert_close(maps.double(), exact, rtol=0, atol=5e-7)


def test_wrong_arguments_are_refused_as_by_the_op(args: tuple[torch.Tensor, ...]) -> None:
    q, k, *_ = args
    with pytest.raises(ValueError, match="kernel_size: expected odd sizes, got 4"):
        local_attention_maps(q, k, num_heads=2, kernel_size=4)
