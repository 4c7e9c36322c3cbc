"""What only a GPU can show: compilation around the op, CUDA graphs, streams, autocast, the same bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.library import opcheck

import sasa
from sasa.ops.local_attention.backends.triton.choices import CHOICES

from ..test_registration import CASES, arguments

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")

OPTIONS: dict[str, Any] = {"num_heads": 4, "kernel_size": 7, "backend": "triton"}


def inputs(dtype: torch.dtype = torch.bfloat16) -> list[Tensor]:
    """q, k, v and embeddings, channels-last, on the device."""
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randn(3, 64, 15, 14, generator=generator).to("cuda", dtype) for _ in range(3)]
    embeddings = [torch.randn(4, 7, 8, generator=generator).cuda() for _ in range(2)]
    return [*(x.contiguous(memory_format=torch.channels_last) for x in maps), *embeddings]


def results(args: list[Tensor], op: Any = sasa.local_attention, **options: Any) -> list[Tensor]:
    """Output and gradients."""
    leaves = [x.detach().requires_grad_() for x in args]
    out = op(*leaves, **(OPTIONS | options))
    return [out.detach(), *torch.autograd.grad(out.float().square().sum(), leaves)]


def assert_same_bits(first: list[Tensor], second: list[Tensor]) -> None:
    assert all(torch.equal(x, y) for x, y in zip(first, second, strict=True))


@pytest.mark.parametrize("device", ["cuda"])
def test_auto_takes_triton(device: str) -> None:
    args = [x.to(device) for x in inputs()]
    auto = sasa.local_attention(*args, **(OPTIONS | {"backend": "auto"}))
    assert torch.equal(auto, sasa.local_attention(*args, **OPTIONS))
    assert sasa.ops.support(*args, num_heads=4)["triton"] == []


@pytest.mark.parametrize("device", ["cuda"])
@pytest.mark.parametrize("pool", [1, 2])
def test_two_runs_give_the_same_bits(device: str, pool: int) -> None:
    assert_same_bits(results(inputs(), pool=pool), results(inputs(), pool=pool))


@pytest.mark.parametrize("device", ["cuda"])
def test_fullgraph_compile(device: str) -> None:
    compiled = torch.compile(sasa.local_attention, fullgraph=True)
    assert_same_bits(results(inputs(), compiled), results(inputs()))


@pytest.mark.parametrize("device", ["cuda"])
def test_cuda_graph(device: str) -> None:
    args = inputs()
    want = results(args, pool=2)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        results(args, pool=2)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        got = results(args, pool=2)
    for x in got:
        x.fill_(torch.nan)
    graph.replay()
    torch.cuda.synchronize()
    assert_same_bits(got, want)


@pytest.mark.parametrize("device", ["cuda"])
def test_another_stream(device: str) -> None:
    """It runs on the current stream: what was queued there before is seen."""
    want = results(inputs())
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(10_000_000)
        args = inputs()
        got = results(args)
    stream.synchronize()
    assert_same_bits(got, want)


@pytest.mark.parametrize("device", ["cuda"])
def test_autocast(device: str) -> None:
    args = inputs(torch.float32)
    with torch.autocast(device, torch.bfloat16):
        out = sasa.local_attention(*args, **OPTIONS)
    want = sasa.local_attention(*(x.bfloat16() for x in args[:3]), *args[3:], **OPTIONS)
    assert out.dtype == torch.bfloat16
    assert torch.equal(out, want)


@pytest.mark.parametrize("device", ["cuda"])
@pytest.mark.parametrize("compiled", [False, True])
def test_tf32_while_it_is_allowed(compiled: bool, device: str) -> None:
    """Also if the setting changes after compilation."""
    op = torch.compile(sasa.local_attention, fullgraph=True) if compiled else sasa.local_attention
    args = [x.to(device) for x in inputs(torch.float32)]
    want = results(args, op)
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    try:
        matmul.fp32_precision = "tf32"
        got = results(args, op)
    finally:
        matmul.fp32_precision = before
    assert_same_bits(results(args, op), want)
    for x, y in zip(got, want, strict=True):
        assert not torch.equal(x, y)
        torch.testing.assert_close(x, y, rtol=0, atol=2**-7 * y.abs().max().item())


@pytest.mark.parametrize("device", ["cuda"])
def test_what_is_fastest_is_right_and_read_again(device: str, tmp_path: Path) -> None:
    args = [x.to(device) for x in inputs()]
    want = results(args)
    file = tmp_path / "tuning.json"
    options = {name: value for name, value in OPTIONS.items() if name != "backend"}
    try:
        times = sasa.ops.tune_local_attention(*args, **options, file=file)
        measured = dict(CHOICES)
        got = results(args)
        CHOICES.clear()
        sasa.ops.load_tuning(file)
        assert measured == CHOICES
    finally:
        CHOICES.clear()
    assert all(len(one) == 5 and min(one.values()) > 0 for one in times.values())
    for x, y in zip(got, want, strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=0.02 * y.abs().max().item())


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA GPUs")
def test_a_device_that_is_not_current_cuda() -> None:
    want = results(inputs())
    got = results([x.to("cuda:1") for x in inputs()])
    assert_same_bits([x.to("cuda:0") for x in got], want)


@pytest.mark.parametrize("device", ["cuda"])
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # by opcheck
@pytest.mark.parametrize("name", CASES)
def test_the_op_keeps_its_promises(name: str, device: str) -> None:
    shape, values, heads, options = CASES[name]
    if options.get("dtype") == torch.float64:
        options = options | {"dtype": torch.float16}
    given = [
        x.detach().to(device).requires_grad_() if isinstance(x, Tensor) else x
        for x in arguments(shape, values, heads, **options)
    ]
    opcheck(torch.ops.sasa.local_attention.default, tuple(given))
