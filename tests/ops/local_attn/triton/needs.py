"""What a machine without Triton leaves out."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

needs_triton = pytest.mark.skipif(
    find_spec("triton") is None, reason="triton is not installed; torch brings it on Linux"
)
