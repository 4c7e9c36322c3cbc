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


@needs_triton
@pytest.mark.parametrize(
    ("capability", "dtype", "shapes"),
    [
        ("90", "bfloat16", "013456"),
        ("90", "float32", "1"),
        ("80", "bfloat16", "16"),
        ("100", "bfloat16", "1"),
    ],
)
def test_no_spills(capability: str, dtype: str, shapes: str) -> None:
    """Every head width of the seven shapes, with and without pooling; without shapes it compiles them all."""
    result = subprocess.run(
        [sys.executable, "-m", "tests.ops.triton.offline", capability, dtype, *shapes],
        cwd=Path(__file__).parents[3],
        env=os.environ | {"TRITON_INTERPRET": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    usage = json.loads(result.stdout)
    assert len(usage) == 3 * len(shapes)
    assert all(0 < one["REG"] <= 255 for one in usage.values()), usage
    assert not {name: one for name, one in usage.items() if one["STACK"] or one["LOCAL"]}
