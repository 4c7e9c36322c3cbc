"""The Triton kernels on a GPU: against the loops, and what only a GPU can show."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.library import opcheck

import sasa
from sasa.ops import block_attention, block_attention_statistics, support

from . import test_block_attention as tests
from .cases import Case, judge

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")

CASES = int(os.environ.get("SASA_SWEEP_CASES", "40")) // 4  # each compiles some kernels
STEM = Case(size=(30, 41), heads=4, head_dim=16, layout="channels_last")


def inputs(case: Case = STEM, device: str = "cuda", **changes: Any) -> list[Tensor]:
    """x, and qk_weight, rel_weight and v_weight that want gradients."""
    x, *learned = replace(case, **changes).arguments(device)
    return [x, *(a.requires_grad_() for a in learned)]


def results(args: list[Tensor]) -> list[Tensor]:
    return [x.detach() for x in tests.results(args, 4, "triton")]


def assert_same_bits(first: list[Tensor], second: list[Tensor]) -> None:
    assert all(torch.equal(x, y) for x, y in zip(first, second, strict=True))


@pytest.mark.parametrize("seed", range(CASES))
def test_sweep(seed: int) -> None:
    """Random cases, in float16 and float32 where they are in float64, and the stem's shape."""
    for case in (Case.draw(seed), replace(STEM, size=(3 + seed % 7, 9), batch=1, seed=seed)):
        channels = min(case.channels, 4)
        dtype = case.dtype if case.dtype != torch.float64 else (torch.float32, torch.float16)[seed % 2]
        case = replace(case, channels=channels, dtype=dtype)
        wrong = {name: e for name, e in judge(case, "triton", "cuda").items() if not e <= 1}
        assert not wrong, case


def test_auto_takes_triton() -> None:
    args = inputs()
    assert support(block_attention, *args, block_size=4)["triton"] == []
    got = block_attention(*args, block_size=4)
    assert torch.equal(got, block_attention(*args, block_size=4, backend="triton"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_two_runs_give_the_same_bits(dtype: torch.dtype) -> None:
    """More blocks than programs, in both passes."""
    args = inputs(size=(224, 220), dtype=dtype)
    assert_same_bits(results(args), results(args))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_a_batch_of_images(dtype: torch.dtype, layout: str) -> None:
    """Many blocks a program; plain PyTorch in float64 judges."""
    args = inputs(batch=9, size=(222, 224), dtype=dtype, layout=layout)
    got = block_attention_statistics(*args, block_size=4, backend="triton")
    with torch.no_grad():
        want = block_attention_statistics(*(a.double() for a in args), block_size=4, backend="reference")
    # Measured with batch 1, of the "cpu" backend and the reference: 4e-7 and rounding, 4e-6 (means are near
    # zero), 1e-6, and of gradients 5e-6.
    for x, y, bound in zip(got, want, (4e-6 + torch.finfo(dtype).eps / 2, 2e-5, 1e-5), strict=True):
        assert (x - y).abs().max() <= bound * y.abs().max()
    exact = [args[0].double(), *(a.detach().double().requires_grad_() for a in args[1:])]
    grads = torch.autograd.grad((got[1] + got[2].sqrt()).sum(), args[1:])
    mean, var = block_attention_statistics(*exact, block_size=4, backend="reference")[1:]
    for x, y in zip(grads, torch.autograd.grad((mean + var.sqrt()).sum(), exact[1:]), strict=True):
        assert (x - y).abs().max() <= 2e-5 * y.abs().max()


def test_equal_maxima() -> None:
    tests.check_equal_maxima_give_the_gradient_to_the_first("triton", torch.float32, "cuda")


@pytest.mark.parametrize("mean", [0.0, 1e3])
def test_variance_of_outputs_far_from_zero(mean: float) -> None:
    tests.check_variance_of_outputs_far_from_zero("triton", mean, (4, 2, 40, 44), "cuda")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [(0, 0), (5, 6), (9, 12)], ids=str)
def test_not_a_number_passes(value: float, place: tuple[int, int]) -> None:
    tests.check_not_a_number_passes("triton", tests.STEM, value, place, "cuda")


@pytest.mark.parametrize("query", [0, 7, 15])
def test_one_row_of_weights(query: int) -> None:
    tests.check_one_row_of_weights("triton", tests.STEM, query, "cuda")


def test_fullgraph_compile() -> None:
    def run(*args: Tensor) -> Any:
        out = block_attention(*args, block_size=4, backend="triton")
        return out, *block_attention_statistics(*args, block_size=4, backend="triton")

    args = inputs()
    compiled = torch.compile(run, fullgraph=True)
    assert_same_bits(list(compiled(*args)), list(run(*args)))
    got, want = (torch.autograd.grad(sum(y.sum() for y in f(*args)), args[1:]) for f in (compiled, run))
    assert_same_bits(list(got), list(want))


def test_cuda_graph() -> None:
    args = inputs(dtype=torch.bfloat16)
    want = results(args)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        results(args)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        got = results(args)
    for x in got:
        x.fill_(torch.nan)
    graph.replay()
    torch.cuda.synchronize()
    assert_same_bits(got, want)


def test_another_stream() -> None:
    """It runs on the current stream: what was queued there before is seen."""
    want = results(inputs())
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(10_000_000)
        got = results(inputs())
    stream.synchronize()
    assert_same_bits(got, want)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA GPUs")
def test_a_device_that_is_not_current() -> None:
    got = results(inputs(device="cuda:1"))
    assert_same_bits([x.to("cuda:0") for x in got], results(inputs()))


def test_autocast() -> None:
    args = inputs()
    with torch.autocast("cuda", torch.bfloat16):
        out = block_attention(*args, block_size=4)
        maximum, mean, _ = block_attention_statistics(*args, block_size=4)
    assert (out.dtype, maximum.dtype, mean.dtype) == (torch.bfloat16, torch.bfloat16, torch.float32)
    assert torch.equal(out, block_attention(args[0].bfloat16(), *args[1:], block_size=4))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # by opcheck
@pytest.mark.parametrize("channels_last", [False, True])
def test_the_ops_keep_their_promises(channels_last: bool) -> None:
    ops = torch.ops.sasa
    x, *learned = (a.detach().contiguous().requires_grad_(a.requires_grad) for a in inputs(size=(10, 13)))
    for pool in (False, True):
        opcheck(ops.block_attention, (x, *learned, 4, pool, channels_last))
    opcheck(ops.block_attention_statistics, (x, *learned, 4, channels_last))
    fixed = [a.detach() for a in learned]
    maximum, mean, var = (y.detach() for y in ops.block_attention_statistics(x, *fixed, 4, channels_last))
    opcheck(ops.block_attention_backward, (maximum, var, mean, mean.clone(), x, *fixed, 4, True))


@pytest.mark.parametrize("training", [False, True])
def test_the_stem_takes_it(training: bool) -> None:
    """And agrees with itself on a CPU, whose kernels are judged there."""
    torch.manual_seed(0)
    stem = sasa.AttentionStem().train(training)
    x = torch.randn(2, 3, 30, 33)
    want = stem(x)
    got = stem.cuda()(x.cuda())
    assert (got.cpu() - want).abs().max() <= 1e-4 * want.abs().max()
    if not training:
        fused = sasa.fuse(stem)(x.cuda())
        assert (fused.cpu() - want).abs().max() <= 1e-4 * want.abs().max()
