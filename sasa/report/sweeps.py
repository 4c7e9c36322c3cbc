"""The results of sweeps, and tests of the paper's claims with them."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sasa.report.significance import holm, paired_p_value, standard_error

LEVEL = 0.05
"""Significance level of the tests."""

Verdict = Literal["supported", "contradicted", "not significant"]


@dataclass(frozen=True)
class Cell:
    """One network of a sweep.

    Attributes:
        name: Name within the sweep.
        series: Cells of a series are joined by a line in plots; None for a single point.
        paper: The paper's top-1 in %, or None.
        parameters: Number of parameters.
        flops: FLOPs per image.
        runs: The rows of results.csv, one per seed.
    """

    name: str
    series: str | None
    paper: float | None
    parameters: int
    flops: int
    runs: list[dict[str, Any]] = field(default_factory=list)

    @property
    def top1(self) -> list[float]:
        """Test accuracy of each seed in %."""
        return [100 * run["top1"] for run in self.runs]

    @property
    def mean(self) -> float | None:
        """Mean of top1; None without runs."""
        return statistics.fmean(self.top1) if self.runs else None

    @property
    def error(self) -> float | None:
        """Standard error of the mean; None for fewer than two seeds."""
        return standard_error(self.top1)

    @property
    def milliseconds(self) -> float | None:
        """Measured inference time per image in ms, or None."""
        seconds = self.runs[0]["inference_seconds"] if self.runs else None
        return None if seconds is None else 1000 * seconds

    @property
    def training_minutes(self) -> float | None:
        """Training time of a run in minutes, without validation, mean over the seeds."""
        return self._mean("training_seconds", 1 / 60)

    @property
    def peak_megabytes(self) -> float | None:
        """Peak memory of a run in 10⁶ bytes, mean over the seeds."""
        return self._mean("peak_memory_bytes", 1e-6)

    def _mean(self, column: str, unit: float) -> float | None:
        values = [run[column] * unit for run in self.runs if run[column] is not None]
        return statistics.fmean(values) if values else None


@dataclass(frozen=True)
class Claim:
    """A pair of cells of which the first is expected to be more accurate, and the measured difference.

    Attributes:
        better: The cell that is expected to be more accurate, such as in the paper.
        worse: The other cell.
        paper: The paper's difference in points of top-1, or None.
        difference: The measured difference, better − worse, mean over the common seeds; None without any.
        error: Standard error of the measured difference; None for fewer than two common seeds.
        p: The p-value of the paired t-test over the common seeds, adjusted by Holm's method for the number of
            claims in the sweep; None as for error.
        verdict: "not significant" unless p < LEVEL.
    """

    better: str
    worse: str
    paper: float | None
    difference: float | None
    error: float | None
    p: float | None
    verdict: Verdict


@dataclass(frozen=True)
class Sweep:
    """A sweep with its results.

    Attributes:
        name: Name, such as "table5".
        title: What varies.
        paper: Table or figure of the paper, with network and data.
        note: A remark.
        cells: The cells.
        claims: The claims.
    """

    name: str
    title: str
    paper: str
    note: str
    cells: list[Cell]
    claims: list[Claim]


def read_sweeps(folder: str | Path) -> list[Sweep]:
    """The sweeps of a folder: tables of the paper, its other results, then all others.

    Args:
        folder: A folder written by sasa ablate.

    Raises:
        FileNotFoundError: The folder has no results.json.
        ValueError: The results are not those of sweeps.
    """
    path = Path(folder) / "results.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"folder: expected one written by sasa ablate, got {folder} without results.json"
        )
    content = json.loads(path.read_text(encoding="utf-8"))
    if not {"sweeps", "runs"} <= content.keys():
        raise ValueError(f"{path}: expected the results of sasa ablate, got those of a single run")
    sweeps = []
    for described in content["sweeps"]:
        cells = [
            Cell(
                cell["name"],
                cell["series"],
                cell["paper"],
                cell["parameters"],
                cell["flops"],
                [r for r in content["runs"] if (r["sweep"], r["cell"]) == (described["name"], cell["name"])],
            )
            for cell in described["cells"]
        ]
        by_name = {cell.name: cell for cell in cells}
        claims = judge([(by_name[better], by_name[worse]) for better, worse in described["claims"]])
        texts = {key: described[key] for key in ("name", "title", "paper", "note")}
        sweeps.append(Sweep(**texts, cells=cells, claims=claims))
    return sorted(sweeps, key=lambda sweep: (not sweep.name.startswith("table"), not sweep.paper, sweep.name))


def judge(pairs: Sequence[tuple[Cell, Cell]]) -> list[Claim]:
    """Test the claims that the first cell of each pair is more accurate, with the seeds that both have.

    Networks trained with the same seed see the same images in the same order.
    """
    differences = [_differences(better, worse) for better, worse in pairs]
    claims = []
    for (better, worse), values, p in zip(
        pairs, differences, holm([paired_p_value(values) for values in differences]), strict=True
    ):
        paper = None if better.paper is None or worse.paper is None else better.paper - worse.paper
        difference = statistics.fmean(values) if values else None
        verdict: Verdict = "not significant"
        if difference is not None and p is not None and p < LEVEL:
            verdict = "supported" if difference > 0 else "contradicted"
        claims.append(Claim(better.name, worse.name, paper, difference, standard_error(values), p, verdict))
    return claims


def _differences(better: Cell, worse: Cell) -> list[float]:
    """Differences of top-1 in points, one for each seed that both cells have."""
    first, second = (dict(zip((run["seed"] for run in x.runs), x.top1, strict=True)) for x in (better, worse))
    return [first[seed] - second[seed] for seed in first if seed in second]
