"""The benchmarks are no part of the installed package: let the tests find them whatever runs pytest."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
