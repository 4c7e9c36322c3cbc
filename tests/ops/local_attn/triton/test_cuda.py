"""The kernels on a GPU: each form of them against the oracle, and what only a GPU can show.

That is compilation around the op, CUDA graphs, streams, autocast, DDP, the same bits.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.library import opcheck
from torch.nn.parallel import DistributedDataParallel

import sasa
from sasa.ops.local_attn.backends.triton import tiles, tuning
from sasa.ops.local_attn.backends.triton.choices import CHOICES
from sasa.ops.local_attn.inputs import LocalAttentionInputs

from .. import test_nonfinite
from ..cases import Case, judge
from ..runners import Runner
from ..test_registration import CASES, arguments
from .nonfinite import CHECKS
from .shapes import DOT_SHAPES, PLAIN, SHAPES

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
    assert sasa.ops.support(sasa.local_attention, *args, num_heads=4)["triton"] == []


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the kernels that ran."""
    from sasa.ops.local_attn.backends.triton import launch

    names: list[str] = []
    run = launch.Launch.__call__

    def recorded(self: Any) -> None:
        names.append(self.kernel.fn.__name__)
        run(self)

    monkeypatch.setattr(launch.Launch, "__call__", recorded)
    return names


@pytest.fixture
def on_tensor_cores(monkeypatch: pytest.MonkeyPatch, launched: list[str]) -> Iterator[None]:
    """Wherever it can run, that form does, and no other."""
    monkeypatch.setattr(tiles, "dot_pays", lambda *_, **__: True)
    yield
    assert launched
    assert all("dot" in name for name in launched), launched


def right(case: Case, device: str) -> None:
    """The oracle judges output and gradients; with a ReLU, that is in the forward kernel, inference too."""

    def op(*args: Any, **options: Any) -> Tensor:
        return sasa.local_attention(*args, **options, backend="triton")

    errors = judge(op, case, device=device, gradients=True)
    if case.relu:
        errors["inference"] = judge(op, case, device=device)["out"]
    assert not {name: error for name, error in errors.items() if not error <= 1}


@pytest.mark.parametrize("device", ["cuda"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", SHAPES)
def test_shapes(name: str, dtype: torch.dtype, device: str) -> None:
    """In the form that the table selects."""
    right(replace(PLAIN, **SHAPES[name] | {"dtype": dtype}), device)


@pytest.mark.parametrize("device", ["cuda"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", DOT_SHAPES)
@pytest.mark.usefixtures("on_tensor_cores")
def test_shapes_on_tensor_cores(name: str, dtype: torch.dtype, device: str) -> None:
    right(replace(PLAIN, **{"batch": 1} | DOT_SHAPES[name] | {"dtype": dtype}), device)


@pytest.mark.parametrize("device", ["cuda"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", CHECKS)
@pytest.mark.usefixtures("on_tensor_cores")
def test_not_finite_on_tensor_cores(
    name: str, dtype: torch.dtype, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without dilation, which that form does not have; `test_nonfinite.py` has the other in float32."""
    monkeypatch.setattr(test_nonfinite, "DILATION", (1, 1))
    monkeypatch.setitem(test_nonfinite.WINDOW, "dilation", (1, 1))
    CHECKS[name](Runner("triton", device, dtype, torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("device", ["cuda"])
@pytest.mark.parametrize("pool", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_two_runs_give_the_same_bits(device: str, dtype: torch.dtype, pool: int, launched: list[str]) -> None:
    """In half precision of the form on tensor cores, in float32 of the other."""
    assert_same_bits(results(inputs(dtype), pool=pool), results(inputs(dtype), pool=pool))
    assert all(("dot" in name) == (dtype != torch.float32) for name in launched)
    assert len(launched) == 6


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


@pytest.fixture
def process_group() -> Iterator[None]:
    """Of this process alone."""
    torch.distributed.init_process_group("nccl", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        try:
            torch.distributed.all_reduce(torch.zeros(1, device="cuda"))
        except torch.distributed.DistBackendError as error:
            pytest.skip(f"NCCL does not run on this machine: {error}")
        yield
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize("device", ["cuda"])
@pytest.mark.usefixtures("process_group")
def test_distributed_data_parallel(device: str) -> None:
    """The gradients are those of the layer itself, but for the order of cuDNN's sums."""
    torch.manual_seed(0)
    layer = sasa.LocalSelfAttention2d(64, 64, kernel_size=7, num_heads=4).to(device)
    parallel = DistributedDataParallel(copy.deepcopy(layer))
    x = torch.randn(2, 64, 15, 14, device=device)
    for one in (layer, parallel):
        one(x).square().sum().backward()
    for (name, plain), shared in zip(layer.named_parameters(), parallel.parameters(), strict=True):
        assert plain.grad is not None, name
        peak = plain.grad.abs().max().item()
        assert peak > 0, name
        torch.testing.assert_close(shared.grad, plain.grad, rtol=0, atol=1e-4 * peak)


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
    window = {"dilation": 1, "scale": 1.0, "pool": 1} | OPTIONS
    del window["backend"]
    try:
        times = tuning.tune_local_attention(LocalAttentionInputs.validated(*args, **window), file)
        measured = dict(CHOICES)
        got = results(args)
        CHOICES.clear()
        tuning.load_tuning(file)
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
