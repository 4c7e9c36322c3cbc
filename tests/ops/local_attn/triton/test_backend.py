"""What the Triton backend takes and refuses, and that its kernels are there for CUDA tensors alone."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import sasa
from sasa.ops import support
from sasa.ops.local_attn.backends import BACKENDS, triton
from sasa.ops.local_attn.inputs import LocalAttentionInputs
from sasa.ops.local_attn.spec import LocalAttentionSpec

from .needs import needs_triton

SPEC = LocalAttentionSpec(2, (3, 3), (1, 1), 1.0, 1)
X = torch.zeros(1, 4, 3, 3)


def reasons(*args: Any) -> str:
    return "; ".join(triton.why_not(LocalAttentionInputs(*args, SPEC)))


def test_it_comes_before_the_reference() -> None:
    assert [backend.NAME for backend in BACKENDS] == ["cpu", "triton", "reference"]


def test_a_cpu_is_refused_by_name_and_passed_over_by_auto() -> None:
    assert "the tensors are on cpu" in "; ".join(
        support(sasa.local_attention, X, X, X, num_heads=2)["triton"]
    )


def test_triton_missing_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sasa.ops.reasons, "_TRITON_INSTALLED", False)
    assert "triton is not installed" in reasons(X, X, X, None, None)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_dtypes(dtype: torch.dtype) -> None:
    x, rel = X.to(dtype), torch.zeros(2, 3, 1, dtype=torch.float32)
    assert "not all of one of" not in reasons(x, x, x, rel, rel)


def test_what_it_does_not_take() -> None:
    assert "float64" in reasons(X.double(), X.double(), X.double(), None, None)
    assert "torch.bfloat16, torch.float32" in reasons(X, X, X.bfloat16(), None, None)
    rel = torch.zeros(2, 3, 1, dtype=torch.float64)
    assert "rel_col is torch.float64" in reasons(X, X, X, None, rel)


def test_images_beyond_32_bit_offsets_are_refused() -> None:
    large = torch.empty(1, 4, 2**15, 2**14 + 1, device="meta")
    assert "an image of k spans more than 2**31 elements" in reasons(X, large, X, None, None)
    fits = torch.empty(1, 4, 2**15, 2**14, device="meta")
    assert "spans" not in reasons(fits, fits, fits, None, None)


@needs_triton
@pytest.mark.parametrize("grid", [(2**31, 1), (1, 2**16)])
def test_more_programs_than_a_grid_holds_are_refused(grid: tuple[int, int]) -> None:
    from sasa.ops.local_attn.backends.triton.launch import Launch

    with pytest.raises(ValueError, match="split the batch"):
        Launch(None, grid, {}, warps=1, registers=255)()


@needs_triton
@pytest.mark.parametrize("pool", [1, 2])
def test_auto_takes_it_for_cuda_tensors(pool: int) -> None:
    """Fake ones, with the fake kernel."""
    with FakeTensorMode():
        q = torch.empty(1, 4, 7, 8, device="cuda").to(memory_format=torch.channels_last)
        rel = torch.empty(2, 3, 1, device="cuda")
        table = support(sasa.local_attention, q, q, q, rel, rel, num_heads=2, kernel_size=3)
        assert next(name for name, reasons in table.items() if not reasons) == "triton"
        out = sasa.local_attention(q, q, q, rel, rel, num_heads=2, kernel_size=3, pool=pool)
    assert (out.device.type, out.shape) == ("cuda", (1, 4, -(-7 // pool), 8 // pool))
    assert out.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("dynamic", [False, True])
def test_why_not_can_be_traced(dynamic: bool) -> None:
    """Else torch.compile(fullgraph) could not choose a backend."""

    def count(q: torch.Tensor, rel: torch.Tensor) -> torch.Tensor:
        return q + len(triton.why_not(LocalAttentionInputs(q, q, q, rel, rel, SPEC)))

    traced = torch.compile(count, backend="eager", fullgraph=True, dynamic=dynamic)
    rel = torch.zeros(2, 3, 1)
    assert torch.equal(traced(X, rel), count(X, rel))


@pytest.mark.parametrize("name", ["local_attention", "local_attention_backward"])
def test_ops_have_a_cuda_kernel(name: str) -> None:
    assert torch._C._dispatch_has_kernel_for_dispatch_key(f"sasa::{name}", "CUDA")


def test_nothing_imports_triton_before_a_launch() -> None:
    code = """
import sys
import torch, torch.utils.flop_counter  # it looks for triton
before = set(sys.modules)
import sasa
x = torch.zeros(1, 4, 3, 3)
sasa.ops.support(sasa.local_attention, x, x, x, num_heads=2)
new = {name for name in set(sys.modules) - before if name.partition(".")[0] == "triton"}
sys.exit(f"imported {new}" if new else 0)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
