"""A sweep whose runs torchrun's processes share."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sasa.train.ablation.workers import Workers, torchrun_workers


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "results.csv").open() as file:
        return list(csv.DictReader(file))


def test_two_workers_share_the_runs(sweep: str, recipe: Path, tmp_path: Path) -> None:
    """Each run is of one process and trained once, and the first worker tells of all.

    Two sweeps, one after the other; the failing run is the second worker's."""
    failing = tmp_path / "failing.yaml"
    failing.write_text(
        "title: Learning rates\nconfig: {model: {name: sasa_resnet26_conv}}\n"
        "cells:\n- {name: usual, optimizer: {lr_base: 20}}\n- {name: huge, optimizer: {lr_base: 1.0e+38}}\n"
    )
    good, bad = tmp_path / "good", tmp_path / "bad"
    options = ["--config", str(recipe), "--seeds", "1", "--out"]
    commands = [["ablate", sweep, *options, str(good)], ["ablate", str(failing), *options, str(bad)]]
    program = f"from sasa.cli import main; print([main(command) for command in {commands!r}], flush=True)"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    process = subprocess.run(
        [*launcher, "--no-python", sys.executable, "-c", program],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.count("[0, 2]\n") == process.stdout.count("[0, 0]\n") == 1, "the exit codes"

    starts = ("two, k = 3, seed 0: starts", "two, k = 5, seed 0: starts")
    for once in (*starts, f"2 runs in {good}", "results: "):
        assert process.stdout.count(once) == 1
    assert process.stdout.count("[1/1] two, k = ") == 2
    table = rows(good)
    assert [row["cell"] for row in table] == ["k = 3", "k = 5"]
    assert all(value != "" for row in table for value in row.values()), "times are measured too"
    results = [json.loads((good / row["run"] / "results.json").read_text()) for row in table]
    assert [result["processes"] for result in results] == [1, 1]

    message = "sasa: error: 1 of 2 runs failed: failing, huge, seed 0: FloatingPointError"
    assert process.stderr.count(message) == 1
    assert [row["cell"] for row in rows(bad)] == ["usual"]


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_every_run_is_in_one_share_and_shares_begin_with_the_first_seeds(count: int) -> None:
    runs = list(range(5))
    shares = [Workers(rank, count).share(runs) for rank in range(count)]
    assert sorted(run for share in shares for run in share) == runs
    assert [share[0] for share in shares[:5]] == runs[:count]


@pytest.mark.parametrize(
    ("visible", "count", "rank", "expected"),
    [
        (None, 0, 1, None),
        ("", 0, 1, ""),
        (None, 4, 1, "1"),
        (None, 2, 3, "1"),
        ("5,7", 2, 1, "7"),
        ("GPU-a,GPU-b", 2, 0, "GPU-a"),
    ],
)
def test_each_worker_has_a_gpu_and_its_runs_no_rank(
    visible: str | None, count: int, rank: int, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    ranks = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": "4"}
    others = {"MASTER_ADDR": "localhost", "MASTER_PORT": "0", "TORCHELASTIC_RUN_ID": "none"}
    for name, value in {**ranks, **others}.items():
        monkeypatch.setenv(name, value)
    before = dict(os.environ)
    with torchrun_workers() as workers:
        assert (workers.rank, workers.count) == (0, 1)
        assert os.environ.get("CUDA_VISIBLE_DEVICES") == expected
        assert not {*ranks, *others} & set(os.environ)
        assert not torch.distributed.is_torchelastic_launched()
    torch.distributed.destroy_process_group()
    assert dict(os.environ) == before
