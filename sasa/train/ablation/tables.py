"""results.csv and results.json of a folder of sweeps, with one row per run and sweep."""

from __future__ import annotations

import csv
import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from sasa.train.ablation.plan import Cell, Sweep
from sasa.train.ablation.processes import finished
from sasa.train.atomic import replacing

INFERENCE, TABLE = "inference.json", "results.csv"
_CONTENT = "results.json"
_TIMING = {
    "inference_seconds": "seconds_per_image",
    "inference_device": "device",
    "inference_threads": "threads",
}
_COPIED = (
    "top1",
    "loss",
    "val_top1",
    "parameters",
    "flops",
    "epochs",
    "steps",
    "training_images",
    "training_seconds",
    "peak_memory_bytes",
    "model",
    "data",
    "device",
    "threads",
    "precision",
)


def write_tables(sweeps: Sequence[Sweep], out: Path) -> None:
    """Write both files from the run folders, with all seeds; for sweeps not given, only times are updated.

    Rows of runs whose folders are not there are kept.

    results.json has the descriptions of the sweeps under "sweeps", and under "runs" the rows of results.csv:
    sweep, cell, seed, config_hash, top1 and val_top1 in [0, 1], loss, parameters, flops (per image), epochs,
    steps, training_images, training_seconds, peak_memory_bytes, model, data, device, threads, precision,
    inference_seconds (per image; see inference.json in runs/HASH) with its device and threads, the versions,
    and the run folder.

    Args:
        sweeps: The sweeps, from `plan_sweeps`.
        out: The folder of the runs and of the files.
    """
    path = out / _CONTENT
    before = _read(out)
    recorded = recorded_runs(out)
    ours = {sweep.name for sweep in sweeps}
    described = [sweep for sweep in before["sweeps"] if sweep["name"] not in ours]
    rows = [row | _timing(out / row["run"]) for row in before["runs"] if row["sweep"] not in ours]
    for sweep in sweeps:
        described.append(_description(sweep))
        for cell in sweep.cells:
            for seed in _seeds(cell, out, recorded):
                folder = cell.folder(out, seed)
                if (results := finished(folder)) is not None:
                    rows.append(_row(sweep, cell, seed, out, results))
                elif folder in recorded:
                    names = {"sweep": sweep.name, "cell": cell.name}
                    rows.append(recorded[folder] | names | _timing(folder))
    with replacing(path) as temporary:
        content = {"sweeps": described, "runs": rows}
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    with replacing(out / TABLE) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, _row_keys(), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def require_results_kept(sweeps: Sequence[Sweep], out: Path) -> None:
    """Raise ValueError if write_tables would drop rows of a cell whose recipe has changed.

    Rows of cells that were removed from the file of a sweep may be dropped.
    """
    hashes = {(sweep.name, cell.name): cell.hash for sweep in sweeps for cell in sweep.cells}
    lost: dict[str, list[str]] = {}
    for row in _read(out)["runs"]:
        if hashes.get((row["sweep"], row["cell"]), row["config_hash"]) != row["config_hash"]:
            lost.setdefault(row["sweep"], []).append(row["cell"])
    if lost:
        runs = " and ".join(
            f"{len(cells)} finished runs of {name} by another recipe ({', '.join(dict.fromkeys(cells))})"
            for name, cells in lost.items()
        )
        raise ValueError(
            f"out: expected runs by the given recipe, got {runs} in {out}, which the tables would lose; give "
            "another --out, or the previous recipe"
        )


def recorded_runs(out: Path) -> dict[Path, dict[str, Any]]:
    """The rows of results.json by run folder, which may not be there if the table comes from elsewhere."""
    return {out / row["run"]: row for row in _read(out)["runs"]}


def _read(out: Path) -> dict[str, Any]:
    """The content of results.json, without sweeps if the folder is new."""
    path = out / _CONTENT
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"sweeps": [], "runs": []}


def _seeds(cell: Cell, out: Path, recorded: Collection[Path]) -> list[int]:
    """The seeds for which the cell has run folders or rows."""
    parent = cell.folder(out, 0).parent
    folders = {*parent.glob("seed-*"), *(folder for folder in recorded if folder.parent == parent)}
    return sorted(int(folder.name.removeprefix("seed-")) for folder in folders)


def _description(sweep: Sweep) -> dict[str, Any]:
    return {
        "name": sweep.name,
        "title": sweep.title,
        "paper": sweep.paper,
        "note": sweep.note,
        "claims": [list(claim) for claim in sweep.claims],
        "cells": [
            {
                "name": cell.name,
                "config_hash": cell.hash,
                "series": cell.series,
                "paper": cell.paper,
                "parameters": cell.cost.parameters,
                "flops": cell.cost.flops,
            }
            for cell in sweep.cells
        ],
    }


def _timing(folder: Path) -> dict[str, Any]:
    """The inference columns of a row; none if they were not measured in this folder."""
    path = folder.parent / INFERENCE
    timing = json.loads(path.read_text()) if path.exists() else {}
    return {column: timing[key] for column, key in _TIMING.items() if key in timing}


def _row_keys() -> list[str]:
    return ["sweep", "cell", "seed", "config_hash", *_COPIED, *_TIMING, *_VERSIONS, "run"]


_VERSIONS = ("sasa", "torch", "timm", "lightning")


def _row(sweep: Sweep, cell: Cell, seed: int, out: Path, results: dict[str, Any]) -> dict[str, Any]:
    folder = cell.folder(out, seed)
    row = {
        "sweep": sweep.name,
        "cell": cell.name,
        "seed": seed,
        "config_hash": cell.hash,
        # A run's results have FLOPs only for networks of sasa; the plan has them for all.
        **{key: results[key] for key in _COPIED if key in results},
        "parameters": cell.cost.parameters,
        "flops": cell.cost.flops,
        **dict.fromkeys(_TIMING),
        **_timing(folder),
        **{key: results["versions"][key] for key in _VERSIONS},
        "run": folder.relative_to(out).as_posix(),
    }
    return {key: row[key] for key in _row_keys()}
