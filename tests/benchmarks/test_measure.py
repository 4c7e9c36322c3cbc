"""Timing and reports: wrong contenders are refused, ratios are taken by round, the JSON is complete."""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmarks.flex_attention import FlexLocalAttention
from benchmarks.measure import (
    Contender,
    Report,
    Spread,
    Timings,
    WrongOutputError,
    against,
    arguments,
    measure,
    weighted_sum,
)
from benchmarks.shapes import RESNET50
from benchmarks.unfold import unfold_attention
from sasa import local_attention

ONES = torch.ones(3)


def contender(name: str, run: Callable[[], Tensor], log: list[str] | None = None) -> Contender:
    def logged() -> Tensor:
        if log is not None:
            log.append(name)
        return run()

    return Contender(name, logged, against(ONES), tolerance=1e-3)


@pytest.mark.parametrize(
    "wrong",
    [ONES * 1.01, torch.tensor([1.0, 1.0, torch.nan]), torch.ones(1), torch.ones(1, 3)],
    ids=["off", "nan", "would broadcast", "shape"],
)
def test_a_wrong_contender_is_refused(wrong: Tensor) -> None:
    log: list[str] = []
    contenders = [contender("right", lambda: ONES, log), contender("wrong", lambda: wrong)]
    with pytest.raises(WrongOutputError, match=r"^wrong: .*not timed"):
        measure(contenders, rounds=3, turn=0)
    assert log == ["right"], "nothing is timed"


def test_every_gradient_counts_on_its_own_scale() -> None:
    error = against([1e6 * ONES, ONES])
    assert error([1e6 * ONES, 1.5 * ONES]) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="zip"):
        error([1e6 * ONES])


def test_contenders_take_turns() -> None:
    log: list[str] = []
    timings = measure([contender(name, lambda: ONES, log) for name in "ABC"], rounds=4, turn=0)
    assert "".join(log[-12:]) == "ABCABCABCABC"
    assert {name: len(seconds) for name, seconds in timings.seconds.items()} == {"A": 4, "B": 4, "C": 4}


def test_threads_are_those_of_the_contender_and_put_back() -> None:
    before = torch.get_num_threads()
    seen: set[int] = set()

    def run() -> Tensor:
        seen.add(torch.get_num_threads())
        return ONES

    measure([Contender("A", run, against(ONES), 0.0, threads=before + 1)], rounds=2, turn=0)
    assert (seen, torch.get_num_threads()) == ({before + 1}, before)


def test_ratios_are_taken_round_by_round() -> None:
    """The machine slows down: the ratio is 2 in each round, but not that of the median times."""
    timings = Timings({"A": [2.0, 4.0, 20.0, 60.0, 2.0], "B": [1.0, 2.0, 10.0, 20.0, 2.0]})
    assert timings.ratio("A", "B") == Spread(2.0, 2.0, 2.0)
    assert timings.time("A") == Spread(4.0, 2.0, 20.0)


def test_weighted_sum_is_taken_round_by_round() -> None:
    parts = [
        (3, Timings({"A": [1.0, 2.0], "B": [1.0, 1.0], "only here": [9.0, 9.0]})),
        (2, Timings({"A": [10.0, 20.0], "B": [1.0, 1.0]})),
    ]
    assert weighted_sum(parts) == Timings({"A": [23.0, 46.0], "B": [5.0, 5.0]})


def test_the_report_contains_results_code_and_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["op.py", "--quick"])
    out = tmp_path / "new" / "op.json"
    threads = torch.get_num_threads()
    args = arguments("").parse_args(["--quick", "--threads", str(threads), "--out", str(out)])
    report = Report("op", args)
    report.timings("forward", Timings({"sasa": [1e-3, 1e-3], "unfold": [2e-3, 4e-3]}), "sasa")
    report.target("unfold / sasa", Spread(3.0, 2.5, 3.5), ">=", 250)
    report.target("memory", 1.25, "<=", 1.3)
    report.finish()

    record = json.loads(out.read_text(encoding="utf-8"))
    assert set(record["machine"]) == {"cpu", "cores"}
    assert set(record["versions"]) == {"python", "torch", "torchvision", "sasa"}
    assert (record["command"], record["threads"], record["quick"]) == (
        "python -m benchmarks.op --quick",
        threads,
        True,
    )
    assert record["commit"]
    assert record["date"].startswith("20")
    assert record["backend"] in ("cpu", "reference")
    row = record["timings"]["forward"]["unfold"]
    assert row["ms"] == {"median": 3.0, "low": 2.5, "high": 3.5}
    assert row["times sasa"]["median"] == 3.0
    assert row["seconds_by_round"] == [2e-3, 4e-3]
    assert [(row["what"], row["target"], row["met"]) for row in record["targets"]] == [
        ("unfold / sasa", ">= 250", False),
        ("memory", "<= 1.3", True),
    ]
    assert "unfold / sasa" in capsys.readouterr().out


def test_a_missing_compiled_backend_is_noted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "benchmarks.measure.support", lambda *x, **y: {"cpu": ["no compiler"], "reference": []}
    )
    args = argparse.Namespace(threads=torch.get_num_threads(), out=None, quick=True, backend="auto")
    assert Report("op", args).backend == "reference"
    assert "backend cpu cannot run: no compiler" in capsys.readouterr().out


@pytest.mark.parametrize("pool", [1, 2])
def test_unfolding_computes_the_same(pool: int) -> None:
    q, k, v, rel_row, rel_col = inputs()
    expected = local_attention(q, k, v, rel_row, rel_col, num_heads=2, kernel_size=5, pool=pool)
    out = unfold_attention(q, k, v, rel_row, rel_col, num_heads=2, kernel_size=5, pool=pool)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")  # once a process
@pytest.mark.parametrize("tile", [None, 4])
def test_flex_attention_computes_the_same(tile: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not compiled, because that takes long; benchmarks/op.py checks the compiled form."""
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    q, k, v, rel_row, rel_col = inputs()
    expected = local_attention(q, k, v, rel_row, rel_col, num_heads=2, kernel_size=5)
    out = FlexLocalAttention(8, 12, 5, tile)(q, k, v, rel_row, rel_col)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)


def inputs() -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    qkv = torch.randn(2, 24, 8, 12, dtype=torch.float64, generator=generator)
    rel = (torch.randn(2, 5, 2, dtype=torch.float64, generator=generator) for _ in range(2))
    return *qkv.to(memory_format=torch.channels_last).split(8, 1), *rel


def test_resnet50_has_sixteen_spatial_layers() -> None:
    assert sum(shape.count for shape in RESNET50) == 16


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="for glibc's allocator only")
def test_freed_memory_is_kept() -> None:
    """In its own process, because it changes the allocator."""
    code = """
        import torch
        from pathlib import Path
        from benchmarks.measure import Report, arguments

        def resident() -> int:
            return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

        report = Report("x", arguments("").parse_args(["--quick", "--threads", "1"]))
        for keep in (False, True):
            if keep:
                report.keep_freed_memory()
            blocks = [torch.ones(1_000_000) for _ in range(60)]
            full = resident()
            del blocks
            print("given back", full - resident())
        print(report.record["notes"])
    """
    root = Path(__file__).parents[2]
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=root, capture_output=True, text=True, check=True
    )
    before, after = (int(line.split()[-1]) for line in result.stdout.splitlines() if "given back" in line)
    assert before > 200_000_000
    assert abs(after) < 1_000_000
    assert "glibc keeps freed memory, for every contender" in result.stdout
