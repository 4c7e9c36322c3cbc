"""The logic of the GPU check that needs no GPU: it says so, stops in time, and hides nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks import gpu
from benchmarks.measure import Timings


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
    for name in ("ceilings", "op_against_plain", "networks", "op_against_flex"):
        monkeypatch.setattr(gpu, name, lambda *args: pytest.fail("timed all the same"))
    with pytest.raises(SystemExit, match=r"wrong on this device.*No speed"):
        gpu.run(check(tmp_path))
    assert written(tmp_path)["timings"] == {}


def test_tests_that_do_not_run_are_no_proof(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As where every test is left out because there is no GPU."""
    monkeypatch.setattr(gpu, "TESTS", ("triton/test_cuda.py",))
    one = check(tmp_path)
    if not torch.cuda.is_available():
        assert not gpu.correctness(one)
        assert "skipped" in (tmp_path / "tests.txt").read_text(encoding="utf-8")


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
