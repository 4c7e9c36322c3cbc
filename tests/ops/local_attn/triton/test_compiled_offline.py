"""The kernels compile for GPUs that are not there, and need no memory for registers at ResNet-50's shapes.

Triton compiles to a cubin; cuobjdump, which Triton ships, reads registers and stack of a thread from it. What
does not fit into registers (a spill) is on the stack, and nothing else of these kernels is.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .needs import needs_triton

# Instructions for tensor cores, a warp's product of 16 × 16 by 8, or in tf32 of 16 × 8 by 8.
BF16, F16, TF32 = "HMMA.16816.F32.BF16", "HMMA.16816.F32", "HMMA.1688.F32.TF32"


@needs_triton
@pytest.mark.parametrize(
    ("capability", "dtype", "shapes", "products"),
    [
        ("80", "bfloat16", "0123456", [BF16]),
        ("90", "bfloat16", "0123456", [BF16]),
        ("100", "bfloat16", "0123456", [BF16]),
        ("90", "float16", "1", [F16, TF32]),
        ("90", "float32", "1", []),
        ("90", "tf32", "14", [TF32]),
        ("90", "bfloat16", "78", []),
    ],
)
def test_no_spills(capability: str, dtype: str, shapes: str, products: list[str]) -> None:
    """Every head width of the seven shapes, with and without pooling; then heads of 4 and of 128.

    Products are on tensor cores, but for the forward pass of the heads of 8 of the first shape.
    Only what the user allows is tf32; for float16 that are the embeddings' terms, in three parts, and slopes.
    """
    result = subprocess.run(
        [sys.executable, "-m", "tests.ops.local_attn.triton.offline", capability, dtype, *shapes],
        cwd=Path(__file__).parents[4],
        env=os.environ | {"TRITON_INTERPRET": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    usage = json.loads(result.stdout)
    assert len(usage) == 3 * len(shapes)
    ordinary = {f"{channels} @ {side}, pool 1, forward_kernel" for channels, side in ((64, 56),)}
    for name, one in usage.items():
        assert one["PRODUCTS"] == ([] if name in ordinary else products), name
    assert (ordinary <= usage.keys()) == ("0" in shapes)
    assert all(0 < one["REG"] <= 255 for one in usage.values()), usage
    assert not {name: one for name, one in usage.items() if one["STACK"] or one["LOCAL"]}
