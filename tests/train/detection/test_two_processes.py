"""A detector trained by two processes with gloo, started by torchrun, against one process."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sasa.train import DetectionConfig, save_config, train


def test_two_processes_equal_one(make_config: Callable[..., DetectionConfig], tmp_path: Path) -> None:
    """A backbone without batch norm and images without randomness, which would depend on the process."""
    one = make_config(
        "one",
        model={
            "backbone": "test_convnext",
            "backbone_options": {},
            "options": {"fpn_and_heads": "conv", "fpn_channels": 16},
        },
        augmentation={"scale": (1.0, 1.0), "hflip": 0.0},
        optimizer={"clip_grad": 1.0},
    )
    alone = train(one)
    two = dataclasses.replace(one, run=str(tmp_path / "two"))
    save_config(two, tmp_path / "two.yaml")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    process = subprocess.run(
        [*launcher, "-m", "sasa.cli", "detect", "train", "--config", str(tmp_path / "two.yaml")],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.count("AP50") == 2 + 1 + 10, "two epochs, the test and its classes, said once each"
    together = json.loads((two.folder / "results.json").read_text())
    assert (together["processes"], alone["processes"]) == (2, 1)
    assert together["images"] == alone["images"] == 5, "an odd number: no image is counted twice"
    assert together["loss"] == pytest.approx(alone["loss"], rel=1e-4)
    weights = [load_file(run.folder / "model.safetensors") for run in (one, two)]
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-4, atol=1e-5)
    assert together["AP"] == pytest.approx(alone["AP"], abs=1e-3)
