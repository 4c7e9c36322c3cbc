"""The model on paper is consistent, and docs/gpu.md shows what the command prints."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks import gpu_model
from benchmarks.shapes import RESNET50


@pytest.mark.parametrize("form", ["ordinary", "dot"])
@pytest.mark.parametrize("shape", RESNET50, ids=str)
def test_nothing_is_below_its_floor(shape: gpu_model.Spatial, form: str) -> None:
    least, counted = gpu_model.floor(shape, 128), getattr(gpu_model, form)(shape, 128)
    assert counted.bytes >= least.bytes
    assert counted.flops >= least.flops
    assert counted.exponentials >= least.exponentials
    assert counted.tensor_flops == (counted.flops if form == "dot" else 0)
    assert gpu_model.seconds(counted, shape, 128) >= gpu_model.floor_seconds(shape, 128) > 0


@pytest.mark.parametrize("kind", [gpu_model.BF16, gpu_model.TF32], ids=["bf16", "tf32"])
@pytest.mark.parametrize("shape", RESNET50, ids=str)
def test_the_form_that_runs_is_the_one_predicted_to_be_faster(
    shape: gpu_model.Spatial, kind: gpu_model.Kind
) -> None:
    """Forward and backward; but in tf32 heads of 8 keep their precision at a sixth more."""
    ordinary, dot = (
        gpu_model.seconds(form(shape, 128, kind), shape, 128, kind)
        for form in (gpu_model.ordinary, gpu_model.dot)
    )
    selected = gpu_model.with_dot(shape, kind)
    assert selected == (dot < ordinary)
    dot, ordinary = (gpu_model.backward(shape, 128, kind, with_dot=form) for form in (True, False))
    narrow = kind is gpu_model.TF32 and shape.channels == 8 * gpu_model.HEADS
    assert selected == (dot < (0.8 if narrow else 1) * ordinary)


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
