"""A folder as sasa ablate leaves it, with accuracies made up."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

RUN = {
    "loss": 0.5,
    "epochs": 3,
    "training_images": 20,
    "inference_seconds": 0.004,
    "inference_device": "cpu",
    "inference_threads": 1,
    "data": "fashion-mnist",
    "device": "cpu",
    "precision": "32-true",
    "sasa": "0.1.0",
    "torch": "2.15.0",
}


@pytest.fixture
def write_sweep(tmp_path: Path) -> Callable[..., Path]:
    """Writes results.json, a part of results.csv, and metrics.csv from {cell: top-1 of its seeds in %}."""

    def write(
        cells: Mapping[str, Sequence[float]],
        claims: Sequence[Sequence[str]],
        paper: Mapping[str, float] | None = None,
        series: Mapping[str, str] | None = None,
        title: str = "A title",
        name: str = "table9",
    ) -> Path:
        described, runs = [], []
        for number, (cell, accuracies) in enumerate(cells.items(), 1):
            described.append(
                {
                    "name": cell,
                    "config_hash": f"hash{number}",
                    "series": (series or {}).get(cell),
                    "paper": (paper or {}).get(cell),
                    "parameters": 1_000_000 * number,
                    "flops": 50_000_000 * number,
                }
            )
            for seed, top1 in enumerate(accuracies):
                folder = f"runs/hash{number}/seed-{seed}"
                runs.append(
                    {
                        "sweep": name,
                        "cell": cell,
                        "seed": seed,
                        "top1": top1 / 100,
                        "training_seconds": 60.0 * (seed + 2),
                        "peak_memory_bytes": None if cell == "b" else 7_000_000 * (seed + 1),
                        "run": folder,
                        **RUN,
                    }
                )
                (tmp_path / folder).mkdir(parents=True, exist_ok=True)
                lines = [f"{epoch},{2 / epoch},{epoch * top1 / 300}" for epoch in (1, 2, 3)]
                text = "\n".join(["epoch,train_loss,val_top1", *lines])
                (tmp_path / folder / "metrics.csv").write_text(text + "\n")
        sweep = {
            "name": name,
            "title": title,
            "paper": "Table 9",
            "note": "",
            "claims": claims,
            "cells": described,
        }
        (tmp_path / "results.json").write_text(json.dumps({"sweeps": [sweep], "runs": runs}))
        lines = [f"{run['sweep']},{run['cell']},{run['seed']},{run['top1']}" for run in runs]
        (tmp_path / "results.csv").write_text("\n".join(["sweep,cell,seed,top1", *lines]) + "\n")
        return tmp_path

    return write
