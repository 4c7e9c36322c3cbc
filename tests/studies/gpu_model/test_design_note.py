"""The design note shows what the commands print."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="triton is not installed; torch brings it on Linux")

from sasa.ops import cpu_extension

NOTE = Path(__file__).parents[3] / "studies" / "gpu_model" / "README.md"
needs_kernels = pytest.mark.skipif(not cpu_extension.is_available(), reason="the CPU kernels are not built")


@pytest.mark.parametrize("name", ["model", pytest.param("network_model", marks=needs_kernels)])
def test_it_shows_the_tables(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [name])
    importlib.import_module(f"studies.gpu_model.{name}").main()
    assert capsys.readouterr().out in NOTE.read_text(encoding="utf-8")


def test_it_names_the_files() -> None:
    files = {file.name for file in NOTE.parent.glob("*.py")} - {"__init__.py"}
    assert all(f"`{name}`" in NOTE.read_text(encoding="utf-8") for name in files)
