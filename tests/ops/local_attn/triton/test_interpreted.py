"""The kernels compute what they should: Triton's interpreter against the oracle and other tests' judges."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .needs import needs_triton

GROUPS = ["sweep", "shapes", "nonfinite", "promised", "dot", "dot_nonfinite", "tf32", "tuned"]


@needs_triton
@pytest.mark.parametrize("group", GROUPS)
def test_group(group: str) -> None:
    """In a process of its own, as Triton reads the variable when it is imported."""
    result = subprocess.run(
        [sys.executable, "-m", "tests.ops.local_attn.triton.interpreted", group],
        cwd=Path(__file__).parents[4],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    errors = json.loads(result.stdout)
    assert len(errors) > 5
    assert not {name: error for name, error in errors.items() if not error <= 1}
