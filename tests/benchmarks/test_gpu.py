"""The logic of the GPU check that needs no GPU: it says so, stops in time, and hides nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from benchmarks import gpu
from benchmarks.measure import Contender, Timings, measure
from benchmarks.shapes import Spatial


def check(tmp_path: Path, seconds: float = 100.0) -> gpu.Check:
    return gpu.Check(tmp_path, 2, seconds, gpu.new_record())


def written(tmp_path: Path) -> dict[str, object]:
    return json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))


def test_it_says_that_it_needs_a_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="needs a CUDA GPU"):
        gpu.main(["--out", str(tmp_path)])
    assert not list(tmp_path.iterdir())


def test_no_speed_where_the_op_is_wrong(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(gpu, "correctness", lambda check: False)
    for name in ("ceilings", "op_against_plain", "networks", "op_against_flex", "op_against_natten"):
        monkeypatch.setattr(gpu, name, lambda *args: pytest.fail("timed all the same"))
    with pytest.raises(SystemExit, match=r"wrong on this device.*No speed"):
        gpu.run(check(tmp_path))
    assert written(tmp_path)["timings"] == {}


@pytest.mark.parametrize(
    ("code", "last", "proof"),
    [
        (0, "61 passed, 40 deselected in 9.13s", True),
        (1, "1 failed, 60 passed in 9.13s", False),
        (0, "14 skipped in 1.02s", False),  # as without a GPU
        (5, "40 deselected in 1.02s", False),
    ],
)
def test_what_proves_the_op_right(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: int, last: str, proof: bool
) -> None:
    ran = subprocess.CompletedProcess([], code, f"...\n{last}\n")
    monkeypatch.setattr(subprocess, "run", lambda *args, **options: ran)
    one = check(tmp_path)
    assert gpu.correctness(one) is proof
    assert one.record["correct"] is proof
    assert last in (tmp_path / "tests.txt").read_text(encoding="utf-8")


def test_a_part_that_would_end_too_late_is_left_out_and_named(tmp_path: Path) -> None:
    one = check(tmp_path, seconds=5)
    assert one.section("quick", 0, lambda: 3) == 3
    assert one.section("long", 60, lambda: pytest.fail("run all the same")) is None
    assert "left out" in one.record["not measured"]["long"]


def test_a_part_that_fails_is_named_and_ends_alone(tmp_path: Path) -> None:
    one = check(tmp_path)

    def fail() -> None:
        raise RuntimeError("no kernel for head width 8")

    assert one.section("rival", 0, fail) is None
    assert written(tmp_path)["not measured"] == {"rival": "RuntimeError: no kernel for head width 8"}


def test_what_is_written(tmp_path: Path) -> None:
    one = check(tmp_path)
    one.timings("op", Timings({"sasa": [0.001, 0.002, 0.003]}))
    one.target("faster", 1.5, ">=", 2.0)
    one.write()
    record = written(tmp_path)
    assert record["timings"] == {"op": {"sasa": {"ms": 2.0, "low": 1.5, "high": 2.5}}}
    assert record["targets"] == [{"what": "faster", "measured": 1.5, "target": ">= 2", "met": False}]
    assert {"versions", "commit", "date", "command"} <= set(record)


@pytest.fixture
def on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same calls without a GPU: another device and backend, no graphs, no compiler, the CPU's clock."""

    def timed(contenders: Sequence[Contender], **options: Any) -> Timings:
        return measure(contenders, rounds=1, turn=0)

    monkeypatch.setattr(gpu, "DEVICE", "cpu")
    monkeypatch.setattr(gpu, "BACKEND", "reference")
    monkeypatch.setattr(gpu, "measure_cuda", timed)
    monkeypatch.setattr(gpu, "graphed", lambda run: run)
    monkeypatch.setattr(gpu, "frozen", lambda module, x: module)
    monkeypatch.setattr(torch, "compile", lambda module, **options: module)


@pytest.mark.usefixtures("on_a_cpu")
@pytest.mark.parametrize("gradients", [False, True])
def test_op_is_checked_and_timed(tmp_path: Path, gradients: bool) -> None:
    one = check(tmp_path)
    timings = gpu.op_against_plain(one, Spatial(64, 6, 2, 1), gradients, "op")
    assert set(timings.seconds) == {"sasa", "plain PyTorch", "3×3 convolution"}


@pytest.mark.usefixtures("on_a_cpu")
def test_natten_is_timed_where_it_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, shape = check(tmp_path, seconds=60), Spatial(64, 6, 2, 1)
    one.section("NATTEN", 0, partial(gpu.op_against_natten, one, shape))
    assert "natten is not installed" in one.record["not measured"]["NATTEN"]

    def na2d(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **options: Any) -> torch.Tensor:
        assert q.shape == k.shape == v.shape == (one.batch, 6, 6, 8, 8)
        assert options == {"kernel_size": 7, "scale": 1.0}
        return q + k + v

    natten = ModuleType("natten")
    natten.__spec__ = ModuleSpec("natten", None)
    natten.na2d = na2d  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "natten", natten)
    gpu.op_against_natten(one, shape)
    assert [set(rows) for rows in one.record["timings"].values()] == 2 * [{"sasa", "NATTEN"}]


@pytest.mark.usefixtures("on_a_cpu")
def test_networks_are_checked_and_called() -> None:
    images = gpu.network.smooth_images(8, 32)
    create = partial(gpu.sasa.create_model, "sasa_resnet26_convstem", width=0.25)
    for make in (gpu.inference_call, gpu.training_call):
        call, error = make(gpu.network.steady(create()), images)
        assert error(call()) < 0.15
