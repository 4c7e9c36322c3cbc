"""A sweep from its file to the table: kills, resumption, failures, several at a time."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sasa.cli import main
from sasa.train import ablate, plan_sweeps


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "results.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def times(out: Path) -> dict[Path, int]:
    """When each run's results were written."""
    return {path: path.stat().st_mtime_ns for path in out.glob("runs/*/seed-*/results.json")}


def arrays_of(path: Path) -> dict[str, Any]:
    with np.load(path) as file:
        return dict(file)


@pytest.fixture(scope="module")
def whole(sweep: str, recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two cells, two seeds, by the command, two at a time."""
    out = tmp_path_factory.mktemp("whole")
    command = ["ablate", sweep, "--config", str(recipe), "--seeds", "2", "--jobs", "2", "--out", str(out)]
    assert main(command) == 0
    return out


def test_a_row_for_each_run_of_each_cell(whole: Path) -> None:
    table = rows(whole)
    assert [(row["sweep"], row["cell"], row["seed"]) for row in table] == [
        ("two", cell, seed) for cell in ("k = 3", "k = 5") for seed in ("0", "1")
    ]
    assert len({row["config_hash"] for row in table}) == 2
    for row in table:
        results = json.loads((whole / row["run"] / "results.json").read_text())
        assert float(row["top1"]) == results["top1"]
        assert float(row["loss"]) == results["loss"]
        assert (int(row["flops"]), int(row["parameters"])) == (results["flops"], results["parameters"])
        assert row["torch"] == results["versions"]["torch"]
        assert float(row["inference_seconds"]) > 0
        assert all(value != "" for value in row.values()), "tidy: no cell is empty"
    content = json.loads((whole / "results.json").read_text())
    assert [{key: str(value) for key, value in row.items()} for row in content["runs"]] == table
    (described,) = content["sweeps"]
    assert described["claims"] == [["k = 5", "k = 3"]]
    assert [(cell["name"], cell["paper"]) for cell in described["cells"]] == [
        ("k = 3", 76.4),
        ("k = 5", 77.2),
    ]


def test_a_cells_time_says_how_it_was_measured(whole: Path) -> None:
    paths = list(whole.glob("runs/*/inference.json"))
    assert len(paths) == 2
    for path in paths:
        timing = json.loads(path.read_text())
        assert timing["device"] == "cpu"
        assert timing["threads"] >= 1
        assert "batches of 32" in timing["method"]


def test_the_report_of_the_sweep(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With pictures of what the first run of each cell attends to."""
    assert main(["report", str(whole), "--out", str(tmp_path)]) == 0
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "| k = 3 | 2 | 0.13 M |" in text
    assert "| k = 5 > k = 3 | +0.8 |" in text
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    hashes = {row["config_hash"] for row in rows(whole)}
    attention = {f"{kind}-{name}.png" for kind in ("attention", "relative") for name in hashes}
    assert names == {"two-cost.svg", "two-curves.svg", *attention}
    assert all(f"figures/{name}" in text for name in names)


def test_what_the_attention_of_the_first_run_looks_at_is_kept(whole: Path) -> None:
    paths = list(whole.glob("runs/*/seed-*/attention.npz"))
    assert {path.parent.name for path in paths} == {"seed-0"}
    for path, size in zip(
        sorted(paths, key=lambda path: arrays_of(path)["position/layer1.0.spatial"].size), (3, 5), strict=True
    ):
        arrays = arrays_of(path)
        assert arrays["pictures"].shape == (3, 8, 8, 3)
        assert arrays["captions"].tolist() == ["class0", "class1", "class2"]
        assert arrays["query/layer1.0.spatial"].shape == (3, 1, 8, 8)
        assert arrays["position/layer1.0.spatial"].shape == (1, size, size)
        assert arrays["position/layer1.0.spatial"].sum() == pytest.approx(1, abs=1e-5)


def test_the_same_command_again_trains_nothing(
    whole: Path, sweep: str, recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, timing = times(whole), {path: path.read_text() for path in whole.glob("runs/*/inference.json")}
    command = ["ablate", sweep, "--config", str(recipe), "--seeds", "2", "--out", str(whole)]
    assert main(command) == 0
    output = capsys.readouterr().out
    assert "4 runs in" in output
    assert "4 of them already finished" in output
    assert "seed" not in output.split("already finished")[1], "no run is told of"
    assert times(whole) == before
    assert {path: path.read_text() for path in whole.glob("runs/*/inference.json")} == timing
    assert main([*command, "--dry_run"]) == 0
    assert "\n0 runs remain" in capsys.readouterr().out


def test_a_copy_of_the_table_continues_on_another_machine(
    whole: Path, sweep: str, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the run folders: their rows stay, new seeds are trained, and all networks are timed anew."""
    before = rows(whole)
    (tmp_path / "results.json").write_bytes((whole / "results.json").read_bytes())
    command = ["ablate", sweep, "--config", str(recipe), "--seeds", "3", "--out", str(tmp_path)]
    assert main([*command, "--dry_run"]) == 0
    assert "\n2 runs remain" in capsys.readouterr().out
    assert main(command) == 0
    assert "6 runs in" in (output := capsys.readouterr().out)
    assert "4 of them already finished" in output
    after = rows(tmp_path)
    assert [(row["cell"], row["seed"]) for row in after] == [
        (cell, seed) for cell in ("k = 3", "k = 5") for seed in ("0", "1", "2")
    ]
    without_times = [
        [{key: value for key, value in row.items() if key != "inference_seconds"} for row in table]
        for table in (before, [row for row in after if row["seed"] != "2"])
    ]
    assert without_times[0] == without_times[1]
    assert {row["inference_seconds"] for row in after}.isdisjoint(row["inference_seconds"] for row in before)
    assert len({row["inference_seconds"] for row in after}) == 2
    assert len(times(tmp_path)) == 2
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone" / "results.json").write_bytes((whole / "results.json").read_bytes())
    assert main([*command[:-3], "2", "--out", str(tmp_path / "alone")]) == 0
    weights = [
        json.loads(path.read_text())["weights"] for path in tmp_path.glob("alone/runs/*/inference.json")
    ]
    assert weights == [None, None]


def test_fewer_seeds_leave_the_rows_of_the_others(whole: Path, sweep: str, recipe: Path) -> None:
    before = rows(whole)
    assert len(before) == 4
    assert main(["ablate", sweep, "--config", str(recipe), "--seeds", "1", "--out", str(whole)]) == 0
    assert rows(whole) == before


def test_the_networks_of_a_folder_are_timed_in_one_session(
    sweep: str, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two sweeps that share a cell, one after the other: the report compares their rows."""
    other = tmp_path / "other.yaml"
    other.write_text(
        "title: Position\nconfig: {model: {name: sasa_resnet26_convstem, options: {kernel_size: 5}}}\n"
        "cells:\n- {name: relative}\n- {name: none, model: {options: {position: none}}}\n"
    )
    out = tmp_path / "out"
    options = ["--config", str(recipe), "--seeds", "1", "--out", str(out)]

    def measured() -> dict[str, dict[str, Any]]:
        return {path.parent.name: json.loads(path.read_text()) for path in out.glob("runs/*/inference.json")}

    assert main(["ablate", sweep, *options]) == 0
    first = measured()
    assert main(["ablate", str(other), *options]) == 0
    second = measured()
    assert (len(first), len(second)) == (2, 3)
    assert len({timing["session"] for timing in first.values()}) == 1
    assert len({timing["session"] for timing in second.values()}) == 1
    assert not {timing["session"] for timing in first.values()} & {t["session"] for t in second.values()}
    table = rows(out)
    assert [(row["sweep"], row["cell"]) for row in table] == [
        *(("two", "k = 3"), ("two", "k = 5")),
        *(("other", "relative"), ("other", "none")),
    ]
    for row in table:
        assert float(row["inference_seconds"]) == second[row["config_hash"]]["seconds_per_image"]
    capsys.readouterr()
    assert main(["ablate", sweep, str(other), *options]) == 0
    assert measured() == second, "nothing is new"
    assert "timing" not in capsys.readouterr().out

    # One that another session measured, as a command killed between two files leaves it.
    path = next(out.glob("runs/*/inference.json"))
    path.write_text(path.read_text().replace('"session": "', '"session": "not '))
    assert main(["ablate", sweep, *options]) == 0
    assert len({timing["session"] for timing in measured().values()}) == 1


def session_lives(session: int) -> bool:
    """Whether a session still has a process."""
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(ProcessLookupError):
            if os.getsid(int(path.name)) == session:
                return True
    return False


def test_a_killed_sweep_goes_on_with_the_run_that_was_under_way(
    sweep: str, recipe: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Killed during the second run; then finished, without the first run being touched."""
    out = tmp_path / "out"
    options = ["--seeds", "1", "--epochs", "10", "--data.num_workers", "1", "--out", str(out)]
    command = ["ablate", sweep, "--config", str(recipe), *options]
    process = subprocess.Popen(
        [sys.executable, "-m", "sasa.cli", *command],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )

    def under_way() -> set[str]:
        """The checkpoints of the second run."""
        paths = out.glob("runs/*/seed-0/checkpoints/epoch-*.ckpt") if times(out) else ()
        return {path.name for path in paths if not (path.parents[1] / "results.json").exists()}

    deadline = time.monotonic() + 120
    while not under_way():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.wait()
    while session_lives(process.pid):
        assert time.monotonic() < deadline, "a process is left"
        time.sleep(0.1)
    first = times(out)
    assert under_way(), "the run under way ended with its parent"
    assert len(first) == 1
    assert len(json.loads((out / "results.json").read_text())["runs"]) == 1
    capfd.readouterr()
    assert main(command) == 0
    output = capfd.readouterr().out
    assert "2 runs in" in output
    assert "1 of them already finished" in output
    assert "two, k = 5, seed 0: resumes" in output
    assert [(row["cell"], row["epochs"]) for row in rows(out)] == [("k = 3", "10"), ("k = 5", "10")]
    assert first.items() <= times(out).items()
    assert not list(out.glob("runs/*/seed-0/checkpoints"))


def test_a_failing_cell_is_told_at_the_end_and_harms_no_other(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "failing.yaml"
    path.write_text(
        "title: Learning rates\nconfig: {model: {name: sasa_resnet26_conv}}\n"
        "cells:\n- {name: huge, optimizer: {lr_base: 1.0e+38}}\n- {name: usual, optimizer: {lr_base: 20}}\n"
    )
    out = tmp_path / "out"
    planned = plan_sweeps([str(path)], ["--optimizer.epochs", "2"], recipe)
    with pytest.raises(
        ChildProcessError, match=r"1 of 2 runs failed: failing, huge, seed 0: FloatingPointError"
    ) as e:
        ablate(planned, out, seeds=1)
    assert "log.txt" in str(e.value)
    assert [row["cell"] for row in rows(out)] == ["usual"]
    assert "Traceback" in (planned[0].cells[0].folder(out, 0) / "log.txt").read_text()


def test_when_the_budget_is_spent_no_run_starts(
    sweep: str, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["ablate", sweep, "--config", str(recipe), "--out", str(tmp_path), "--budget", "1e-9"]
    assert main(command) == 0
    assert "6 runs remain" in capsys.readouterr().out
    assert rows(tmp_path) == []


def test_a_run_in_which_the_budget_ends_is_stopped_and_goes_on(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The clock jumps over the deadline as soon as the first run has a checkpoint."""
    path, out = tmp_path / "rates.yaml", tmp_path / "out"
    path.write_text(
        "title: x\nconfig: {model: {name: sasa_resnet26_conv}, optimizer: {epochs: 15}}\n"
        "cells:\n- {name: low, optimizer: {lr_base: 10}}\n"
        "- {name: high, optimizer: {lr_base: 20, epochs: 1}}\n"
    )

    def clock() -> float:
        return 1.0 if list(out.glob("runs/*/seed-0/checkpoints/epoch-*.ckpt")) else 0.0

    command = ["ablate", str(path), "--config", str(recipe), "--seeds", "1", "--out", str(out)]
    with monkeypatch.context() as patch:
        for module in ("ablate", "processes"):
            patch.setattr(f"sasa.train.ablation.{module}.time", SimpleNamespace(monotonic=clock))
        assert main([*command, "--budget", str(0.02 / 60)]) == 0
    output = capsys.readouterr().out
    assert "[1/2] rates, low, seed 0: stopped\n" in output
    assert "rates, high" not in output, "it never starts"
    assert "2 runs remain" in output
    assert rows(out) == []
    (log,) = out.glob("runs/*/seed-0/log.txt")
    before = log.read_text()
    assert main(command) == 0
    output = capsys.readouterr().out
    assert "rates, low, seed 0: resumes" in output
    assert "rates, high, seed 0: starts" in output
    assert [(row["cell"], row["epochs"]) for row in rows(out)] == [("low", "15"), ("high", "1")]
    after = log.read_text().removeprefix(before)
    assert "epoch 15/15:" in after
    assert "epoch 1/15:" not in after, "it goes on rather than starts again"


def test_two_sweeps_at_once_in_a_folder_are_refused(sweep: str, recipe: Path, tmp_path: Path) -> None:
    from sasa.train.ablation.ablate import _locked

    planned = plan_sweeps([sweep], [], recipe)
    with _locked(tmp_path), pytest.raises(BlockingIOError, match="another process is running sweeps"):
        ablate(planned, tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--seeds", "0"], "seeds: expected at least 1, got 0"),
        (["--seeds", "0", "--dry_run"], "seeds: expected at least 1, got 0"),
        (["--nope"], "--nope: unknown key; see sasa ablate --help"),
        (["--jobs", "0"], "jobs: expected at least 1, got 0"),
        (["--budget", "-1"], "minutes: expected a positive number, got -1.0"),
        (["--epochz", "3"], "--epochz: unknown option; did you mean '--epochs'?"),
        (["--config", "nowhere.yaml"], "--config: expected a YAML file, got nowhere.yaml"),
        (["--data", "nowhere"], "'nowhere'"),
    ],
)
def test_faulty_commands(
    sweep: str,
    recipe: Path,
    tmp_path: Path,
    options: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["ablate", sweep, "--config", str(recipe), "--out", str(tmp_path / "out"), *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
