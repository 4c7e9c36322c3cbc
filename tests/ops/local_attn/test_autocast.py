"""Autocast treats the op as a matrix product: the maps are cast, the sums are not."""

from __future__ import annotations

import pytest
import torch

from sasa import local_attention
from sasa.ops import local_attention_maps

from ..kernels import DEVICES
from .runners import Runner

OPTIONS = {"num_heads": 2, "kernel_size": 3, "scale": 0.7, "pool": 2}


@pytest.fixture(params=DEVICES)
def args(request: pytest.FixtureRequest) -> tuple[torch.Tensor, ...]:
    """q, k, v, rel_row, rel_col in float32."""
    generator = torch.Generator().manual_seed(0)
    return Runner("auto", request.param, torch.float32, generator).inputs(5, 4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("with_k", [True, False])
def test_maps_are_cast_and_sums_are_not(
    args: tuple[torch.Tensor, ...], dtype: torch.dtype, with_k: bool
) -> None:
    """The same bits as of q, k, v cast by hand: nothing inside is cast once more."""
    q, k, v, row, col = args
    k = k if with_k else None
    with torch.autocast(q.device.type, dtype):
        out = local_attention(q, k, v, row, col, **OPTIONS)
    assert out.dtype == dtype
    cast = (None if x is None else x.to(dtype) for x in (q, k, v))
    assert torch.equal(out, local_attention(*cast, row, col, **OPTIONS))


def test_gradients_have_the_dtype_of_the_arguments(args: tuple[torch.Tensor, ...]) -> None:
    leaves = [x.requires_grad_() for x in args]
    with torch.autocast(leaves[0].device.type, torch.bfloat16):
        out = local_attention(*leaves, **OPTIONS)
    got = torch.autograd.grad(out.float().square().sum(), leaves)
    by_hand = local_attention(*(x.bfloat16() for x in leaves[:3]), *leaves[3:], **OPTIONS)
    want = torch.autograd.grad(by_hand.float().square().sum(), leaves)
    for x, y in zip(got, want, strict=True):
        assert x.dtype == torch.float32
        assert torch.equal(x, y)


def test_float64_is_left_alone(args: tuple[torch.Tensor, ...]) -> None:
    exact = [x.double() for x in args]
    with torch.autocast(exact[0].device.type, torch.bfloat16):
        out = local_attention(*exact, **OPTIONS)
    assert out.dtype == torch.float64
    assert torch.equal(out, local_attention(*exact, **OPTIONS))


def test_autocast_switched_off(args: tuple[torch.Tensor, ...]) -> None:
    with torch.autocast(args[0].device.type, torch.bfloat16, enabled=False):
        out = local_attention(*args, **OPTIONS)
    assert out.dtype == torch.float32
    assert torch.equal(out, local_attention(*args, **OPTIONS))


@pytest.mark.parametrize("with_k", [True, False])
def test_the_weights_shown_are_those_applied(args: tuple[torch.Tensor, ...], with_k: bool) -> None:
    q, k, _, row, col = args
    k = k if with_k else None
    with torch.autocast(q.device.type, torch.bfloat16):
        maps = local_attention_maps(q, k, row, col, **OPTIONS)
    cast = (None if x is None else x.bfloat16() for x in (q, k))
    assert maps.dtype == torch.float32
    assert torch.equal(maps, local_attention_maps(*cast, row, col, **OPTIONS))
