"""`AttentionStem` by qk_weight and pooled statistics computes what it computes step by step."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sasa import AttentionStem
from sasa.ops import cpu_extension

from .test_attention_stem import LargestTensor, build


def step_by_step(stem: AttentionStem) -> AttentionStem:
    """A copy whose projections are called, since somebody watches them."""
    twin = copy.deepcopy(stem)
    for module in (twin.query_key, twin.value):
        module.register_forward_hook(lambda *_: None)
    return twin


def results(stem: AttentionStem, x: Tensor) -> dict[str, Tensor]:
    """The output, each parameter's gradient and the norm's statistics afterwards."""
    out = stem(x)
    weight = torch.linspace(-1, 2, out.numel(), dtype=out.dtype).view_as(out)
    stem.zero_grad()
    (out * weight).sum().backward()
    gradients = {f"d{name}": p.grad for name, p in stem.named_parameters() if p.grad is not None}
    return {"out": out.detach(), **gradients, **dict(stem.norm.named_buffers())}


def assert_same(stem: AttentionStem, x: Tensor, atol: float = 1e-11) -> None:
    got, want = results(copy.deepcopy(stem), x), results(step_by_step(stem), x)
    assert got.keys() == want.keys()
    for name, value in want.items():
        torch.testing.assert_close(got[name], value, rtol=0, atol=atol, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("values", ["spatially_aware", "pointwise"])
@pytest.mark.parametrize("max_pool", [True, False])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("size", [(8, 12), (7, 6), (1, 2)], ids=str)
def test_is_what_the_steps_give(values: str, max_pool: bool, training: bool, size: tuple[int, int]) -> None:
    stem = build(values=values, max_pool=max_pool).train(training)
    assert (stem.norm.weight < 0).any()
    assert (stem.norm.weight > 0).any()
    assert_same(stem, torch.randn(2, 3, *size, dtype=torch.float64))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "options",
    [{"momentum": None}, {"momentum": 0.3, "eps": 0.1}, {"affine": False}, {"track_running_stats": False}],
    ids=str,
)
def test_norms_of_other_options(options: dict[str, Any], training: bool) -> None:
    stem = build()
    stem.norm = nn.BatchNorm2d(8, dtype=torch.float64, **options)
    stem.train(training)
    x = torch.randn(2, 3, 8, 7, dtype=torch.float64)
    assert_same(stem, x)
    stem(x)  # num_batches_tracked is 1
    assert_same(stem, 2 * x + 1)


@pytest.mark.parametrize("training", [True, False])
def test_a_weight_of_zero(training: bool) -> None:
    """Its own gradient is that of any pixel of the block, so it is not compared, but it learns."""
    stem = build().train(training)
    stem.norm.weight.data[0] = 0
    x = torch.randn(2, 3, 8, 7, dtype=torch.float64)
    got, want = results(copy.deepcopy(stem), x), results(step_by_step(stem), x)
    assert got["dnorm.weight"][0] != 0
    torch.testing.assert_close(got["dnorm.weight"][1:], want["dnorm.weight"][1:], rtol=0, atol=1e-11)
    for name in set(want) - {"dnorm.weight"}:
        torch.testing.assert_close(got[name], want[name], rtol=0, atol=1e-11)


@pytest.mark.parametrize("values", ["spatially_aware", "pointwise"])
def test_gradient_of_the_image(values: str) -> None:
    stem = build(values=values).train()
    x = torch.randn(1, 3, 5, 4, dtype=torch.float64)
    gradients = []
    for module in (stem, step_by_step(stem)):
        image = x.clone().requires_grad_()
        gradients += torch.autograd.grad(module(image).square().sum(), image)
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-11)


def test_float32_and_bfloat16_are_near_float64() -> None:
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    stem = build().train()
    want = copy.deepcopy(stem)(x.double())
    for dtype, atol in ((torch.float32, 1e-5), (torch.bfloat16, 0.06)):
        out = copy.deepcopy(stem).to(dtype)(x.to(dtype))
        assert out.dtype == dtype
        torch.testing.assert_close(out.double(), want, rtol=0, atol=atol)


@pytest.mark.skipif(not cpu_extension.is_available(), reason="without the compiled part")
@pytest.mark.parametrize("training", [True, False])
def test_no_map_of_the_full_resolution(training: bool) -> None:
    stem = AttentionStem().train(training)
    x = torch.randn(2, 3, 64, 64)
    with LargestTensor() as largest:
        stem(x).sum().backward()
    assert largest.numel <= max(x.numel(), 2 * 64 * 16 * 16)


def test_one_pixel_has_no_batch_statistics() -> None:
    with pytest.raises(ValueError, match="Expected more than 1 value per channel when training"):
        build().train()(torch.randn(1, 3, 1, 1, dtype=torch.float64))


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.query_key.register_forward_hook(lambda module, args, out: 2 * out),
        lambda s: s.value.register_forward_pre_hook(lambda module, args: (2 * args[0],)),
        lambda s: setattr(s.query_key, "bias", nn.Parameter(torch.randn(16).double())),
        lambda s: setattr(s, "norm", nn.Identity()),
        lambda s: s.norm.register_forward_hook(lambda module, args, out: -out),
    ],
)
def test_what_is_changed_from_outside_counts(change: Callable[[AttentionStem], Any]) -> None:
    stem = build(values="pointwise")
    x = torch.randn(2, 3, 8, 7, dtype=torch.float64)
    before = stem(x)
    change(stem)
    after = stem(x)
    assert not torch.allclose(after, before)
    torch.testing.assert_close(after, step_by_step(stem)(x), rtol=0, atol=1e-11)
