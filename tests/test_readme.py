"""The Python code in README.md runs, block after block, as a reader would type it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

README = Path(__file__).parents[1] / "README.md"


def test_the_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for torch.compile, which takes a minute; tests/models/test_tracing.py compiles."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch, "compile", lambda model: model)
    blocks = re.findall(r"^```python\n(.*?)^```$", README.read_text(encoding="utf-8"), re.M | re.S)
    assert len(blocks) >= 5
    names: dict[str, Any] = {}
    for number, block in enumerate(blocks):
        exec(compile(block, f"README.md, Python block {number}", "exec"), names)
    assert names["out"].shape == names["v"].shape
    assert names["conv"](names["q"]).shape == names["attention"](names["q"]).shape
    assert names["logits"].shape == (1, 1000)
    assert list(tmp_path.iterdir()) == []
