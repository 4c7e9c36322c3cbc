"""The model on paper is consistent, and docs/gpu.md shows what the command prints."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks import gpu_model
from benchmarks.shapes import RESNET50


@pytest.mark.parametrize("shape", RESNET50, ids=str)
def test_nothing_is_below_its_floor(shape: gpu_model.Spatial) -> None:
    least, (counted, instructions) = gpu_model.floor(shape, 128), gpu_model.tiled(shape, 128)
    assert counted.bytes >= least.bytes
    assert counted.flops >= least.flops
    assert counted.exponentials >= least.exponentials
    assert instructions > 0
    bound, predicted = gpu_model.seconds(shape, 128)
    assert predicted >= bound > 0


def test_the_interior_of_a_large_map_wastes_nothing() -> None:
    """49 positions each of 4·C FLOPs, and two dot products of half a head's width for 7 offsets each."""
    least = gpu_model.floor(gpu_model.Spatial(64, 4000, 1, 1), 1)
    assert least.flops / 4000**2 == pytest.approx(64 * (4 * 49 + 2 * 7), rel=0.01)
    assert least.exponentials / 4000**2 == pytest.approx(8 * 49, rel=0.01)


def test_the_documentation_shows_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu_model"])
    gpu_model.main()
    docs = Path(__file__).parents[2] / "docs" / "gpu.md"
    assert capsys.readouterr().out in docs.read_text(encoding="utf-8")
