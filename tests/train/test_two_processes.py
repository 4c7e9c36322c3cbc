"""Two processes with gloo, started by torchrun, against one process."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sasa.train import TrainConfig, save_config, train


def in_two_processes(*commands: list[str]) -> subprocess.CompletedProcess[str]:
    """Run commands of the CLI one after the other in each of two processes."""
    program = (
        f"import sys; from sasa.cli import main; sys.exit(any([main(command) for command in {commands!r}]))"
    )
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.run(
        [*launcher, "--no-python", sys.executable, "-c", program],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_two_processes_equal_one(
    make_config: Callable[..., TrainConfig], norm_free: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    one = make_config("one", **norm_free)
    alone = train(one)
    two = dataclasses.replace(one, run=str(tmp_path / "two"))
    save_config(two, tmp_path / "two.yaml")
    process = in_two_processes(
        ["train", "--config", str(tmp_path / "two.yaml")],
        ["eval", "--run", str(one.folder), "--data", one.data.source, "--json", str(tmp_path / "x.json")],
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.count("top-1") == 4, "two epochs, the test and the evaluation, printed once each"

    together = json.loads((two.folder / "results.json").read_text())
    assert (together["processes"], alone["processes"]) == (2, 1)
    assert together["images"] == alone["images"] == 7, "an odd number: no image is counted twice"
    assert together["top1"] == alone["top1"]
    assert together["loss"] == pytest.approx(alone["loss"], rel=1e-5)
    weights = [load_file(run.folder / "model.safetensors") for run in (one, two)]
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-4, atol=1e-5)
    tables = [(run.folder / "metrics.csv").read_text().splitlines() for run in (one, two)]
    for row, other in zip(*tables, strict=True):
        values, others = (line.split(",")[:6] for line in (row, other))
        if values[0] != "epoch":
            assert [float(value) for value in values] == pytest.approx([float(o) for o in others], rel=1e-4)

    evaluated = json.loads((tmp_path / "x.json").read_text())
    assert (evaluated["images"], evaluated["top1"]) == (7, alone["top1"])
