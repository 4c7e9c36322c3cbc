"""The registered ops called directly, as exported programs do: whatever a call gets, it returns or raises."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sasa.ops import cpu_extension

from .random_calls import OPS, without_memory

pytestmark = pytest.mark.skipif(not cpu_extension.is_available(), reason="needs the CPU kernels")

CALLS = 1500


@pytest.mark.parametrize("seed", [0, 1])
def test_no_call_ends_the_process(seed: int) -> None:
    script = Path(__file__).with_name("random_calls.py")
    done = subprocess.run(
        [sys.executable, str(script), str(seed), str(CALLS)], capture_output=True, text=True, check=False
    )
    *_, last = done.stdout.splitlines()
    assert done.returncode == 0, f"ended by {done.returncode} at {last}\n{done.stderr}"
    assert int(last) > CALLS // 5, "most calls should not be refused at the first argument"


def test_a_map_without_rows() -> None:
    q = torch.randn(2, 8, 0, 4)
    with pytest.raises(RuntimeError, match=r"expected a CPU map .* with C, H, W >= 1"):
        torch.ops.sasa.local_attention(q, q, q, None, None, 2, 3, 3, 1, 1, 1.0, 1, False, False, True)


def test_no_images() -> None:
    q = torch.randn(0, 8, 5, 4)
    out, lse = torch.ops.sasa.local_attention(q, q, q, None, None, 2, 3, 3, 1, 1, 1.0, 1, False, False, True)
    assert (out.shape, lse.shape) == ((0, 8, 5, 4), (0, 2, 5, 4))
    gradients = torch.ops.sasa.local_attention_backward(
        out, q, q, q, torch.randn(2, 3, 2), None, lse, 2, 3, 3, 1, 1, 1.0, 1, False
    )
    assert gradients[0].shape == q.shape
    assert gradients[3].count_nonzero() == 0


@pytest.mark.parametrize("parts", [0, -1])
def test_no_parts(parts: int) -> None:
    with pytest.raises(RuntimeError, match="weight: expected"):
        torch.ops.sasa.pack_projection(torch.randn(6, 4, 1, 1), None, parts)


@pytest.mark.parametrize("name", OPS)
def test_no_memory(name: str) -> None:
    """Of any tensor: inside, an address of null stands for an absent embedding, which is another result."""
    places = [i for i, x in enumerate(OPS[name](torch.float32)) if isinstance(x, torch.Tensor)]
    for place in places:
        arguments = OPS[name](torch.float32)
        arguments[place] = without_memory(arguments[place])
        with pytest.raises(RuntimeError, match=r"\w: expected a tensor with memory, got one of \d"):
            getattr(torch.ops.sasa, name)(*arguments)
