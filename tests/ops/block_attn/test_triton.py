"""The Triton backend without a GPU: what it refuses, what its kernels compute, and that they compile."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from sasa.ops import block_attention, block_attention_statistics, reasons
from sasa.ops.block_attn.backends import BACKENDS, triton
from sasa.ops.block_attn.inputs import BlockAttentionInputs

from ..local_attn.triton.needs import needs_triton
from .cases import Case

STEM = Case(size=(10, 13), heads=4, head_dim=16)


def run(module: str, *arguments: str, interpret: bool) -> Any:
    """What a program prints; in a process of its own, as Triton reads the variable when it is imported."""
    result = subprocess.run(
        [sys.executable, "-m", f"tests.ops.block_attn.{module}", *arguments],
        cwd=Path(__file__).parents[3],
        env=os.environ | {"TRITON_INTERPRET": str(int(interpret))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@needs_triton
@pytest.mark.parametrize("group", ["cases", "programs", "checks"])
def test_interpreted(group: str) -> None:
    errors = run("interpreted", group, interpret=True)
    assert len(errors) > 5
    assert not {name: error for name, error in errors.items() if not error <= 1}


@needs_triton
@pytest.mark.parametrize(
    ("capability", "dtype"),
    [("80", "float32"), ("90", "bfloat16"), ("100", "float16")],
)
def test_no_spills(capability: str, dtype: str) -> None:
    """At the stem of sasa_resnet50."""
    usage = run("offline", capability, dtype, interpret=False)
    assert len(usage) == 7
    assert all(0 < one["REG"] <= 255 for one in usage.values()), usage
    assert not {name: one for name, one in usage.items() if one["STACK"] or one["LOCAL"]}


@pytest.mark.parametrize(
    "name", ["block_attention", "block_attention_statistics", "block_attention_backward"]
)
def test_ops_have_a_cuda_kernel(name: str) -> None:
    assert torch._C._dispatch_has_kernel_for_dispatch_key(f"sasa::{name}", "CUDA")


def test_it_comes_before_the_reference() -> None:
    assert [backend.NAME for backend in BACKENDS] == ["cpu", "triton", "reference"]


def why_not(x: Tensor, *weights: Tensor) -> list[str]:
    return triton.why_not(BlockAttentionInputs(x, *weights, block_size=math.isqrt(len(weights[-1]))))


def fake(**changes: Any) -> list[Tensor]:
    """Arguments that are said to be on a CUDA device."""
    return [a.to("cuda") for a in Case(**{**vars(STEM), **changes}).arguments()]


@needs_triton
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "sliced"])
def test_auto_takes_it_for_cuda_tensors(dtype: torch.dtype, layout: str) -> None:
    with FakeTensorMode() as mode:
        args = fake(dtype=dtype, layout=layout)
        assert why_not(*args) == []
        with Names() as called:
            out = block_attention(*args, block_size=4, max_pool=True)
            _, mean, var = block_attention_statistics(*args, block_size=4)
    assert mode is not None
    assert [name for name in called.names if name.startswith("sasa::")] == [
        "sasa::block_attention",
        "sasa::block_attention_statistics",
    ]
    assert (out.device.type, out.shape, out.dtype) == ("cuda", (2, 64, 3, 4), dtype)
    assert (mean.dtype, var.dtype) == (torch.float32, torch.float32)
    kept = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    assert out.is_contiguous(memory_format=kept)


class Names(torch.utils._python_dispatch.TorchDispatchMode):
    """Which ops are called."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func.name().partition(".")[0])
        return func(*args, **(kwargs or {}))


@needs_triton
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"dtype": torch.float64}, "x is torch.float64, not all of one of torch.float32"),
        ({"channels": 5}, "5 channels of x are more than 4"),
        ({"block_size": 9}, "81 positions of a block are more than 64"),
        ({"head_dim": 65}, "65 outputs of a head are more than 64"),
    ],
)
def test_why_it_cannot(changes: dict[str, Any], reason: str) -> None:
    with FakeTensorMode():
        args = fake(**changes)
        assert any(reason in one for one in why_not(*args))
        block_size = changes.get("block_size", 4)
        with pytest.raises(ValueError, match=f"backend: expected one .*, got 'triton' \\(triton: {reason}"):
            block_attention(*args, block_size=block_size, backend="triton")
        assert block_attention(*args, block_size=block_size).device.type == "cuda"  # auto takes the reference


@needs_triton
def test_why_it_cannot_take_these_either() -> None:
    with FakeTensorMode():
        x, qk_weight, rel_weight, v_weight = fake()
        wide = "; ".join(why_not(x, qk_weight, rel_weight.double(), v_weight))
        assert wide == "rel_weight is torch.float64, wider than the torch.float32 of the sums"
        assert why_not(x.requires_grad_(), qk_weight, rel_weight, v_weight) == ["a gradient of x is wanted"]
        with torch.no_grad():
            assert why_not(x, qk_weight, rel_weight, v_weight) == []


def test_images_beyond_32_bit_offsets_are_refused() -> None:
    def found(height: int, width: int, outputs: int) -> str:
        x = torch.empty(1, 3, height, width, device="meta")
        return "; ".join(why_not(x, *learned(outputs)))

    def learned(outputs: int) -> list[Tensor]:
        shapes = (4, 3, 3), (4, 3, 16, 16), (16, outputs, 3)
        return [torch.empty(shape, device="meta") for shape in shapes]

    assert "an image of x spans more than 2**31 elements" in found(2**15, 2**15, 4)
    assert "image" not in found(2**13, 2**12, 64)
    assert "an image of the output has more than 2**31 elements" in found(2**13, 2**12 + 1, 64)


def test_a_cpu_and_triton_missing_are_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    args = STEM.arguments()
    monkeypatch.setattr(reasons, "_TRITON_INSTALLED", False)
    with pytest.raises(ValueError, match=r"triton is not installed.*; the tensors are on cpu, not"):
        block_attention(*args, block_size=4, backend="triton")


@pytest.mark.parametrize("dynamic", [False, True])
def test_why_not_can_be_traced(dynamic: bool) -> None:
    """Else torch.compile(fullgraph) could not choose a backend."""

    def count(*args: Tensor) -> Tensor:
        return args[0] + len(triton.why_not(BlockAttentionInputs(*args, block_size=STEM.block_size)))

    args = STEM.arguments()
    traced = torch.compile(count, backend="eager", fullgraph=True, dynamic=dynamic)
    assert torch.equal(traced(*args), count(*args))
