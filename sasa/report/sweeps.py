"""The results of sweeps, read from the folder of sasa ablate, and what they say of the paper's order."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sasa.report.welch import standard_error, welch_p_value

LEVEL = 0.05
"""Of the test: the chance that it decides where there is no difference."""

Verdict = Literal["agree", "disagree", "undecided"]


@dataclass(frozen=True)
class Cell:
    """One network of a sweep.

    Attributes:
        name: Of the cell.
        series: The line it belongs to in plots, or None.
        paper: Top-1 that the paper prints, in %, or None.
        parameters: Of the network.
        flops: Of an image.
        runs: A row of results.csv for each seed.
    """

    name: str
    series: str | None
    paper: float | None
    parameters: int
    flops: int
    runs: list[dict[str, Any]] = field(default_factory=list)

    @property
    def top1(self) -> list[float]:
        """Test accuracy of each seed, in %."""
        return [100 * run["top1"] for run in self.runs]

    @property
    def mean(self) -> float | None:
        """Of top1."""
        return statistics.fmean(self.top1) if self.runs else None

    @property
    def error(self) -> float | None:
        """Standard error of the mean; None for fewer than two seeds."""
        return standard_error(self.top1)

    @property
    def milliseconds(self) -> float | None:
        """Measured inference time of an image."""
        seconds = self.runs[0]["inference_seconds"] if self.runs else None
        return None if seconds is None else 1000 * seconds

    @property
    def training_minutes(self) -> float | None:
        """Of a run without validation, mean over the seeds."""
        return self._mean("training_seconds", 1 / 60)

    @property
    def peak_megabytes(self) -> float | None:
        """Peak memory of a run, mean over the seeds, in 10⁶ bytes."""
        return self._mean("peak_memory_bytes", 1e-6)

    def _mean(self, column: str, unit: float) -> float | None:
        values = [run[column] * unit for run in self.runs if run[column] is not None]
        return statistics.fmean(values) if values else None


@dataclass(frozen=True)
class Claim:
    """The paper has one cell above another; do ours agree?

    Attributes:
        better: Cell that the paper has above.
        worse: Cell that it has below.
        paper: Its difference in points of top-1, or None where it prints none.
        difference: Ours, better − worse; None while a cell has no run.
        error: Standard error of our difference; None with fewer than two seeds of either.
        p: Of Welch's t-test; None as for error.
        verdict: "undecided" unless p < LEVEL.
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
    """A sweep with its results; the texts are those of its file."""

    name: str
    title: str
    paper: str
    note: str
    cells: list[Cell]
    claims: list[Claim]


def read_sweeps(folder: str | Path) -> list[Sweep]:
    """The sweeps of a folder, tables first, each in the order of its cells.

    Raises:
        FileNotFoundError: The folder has no results.json.
        ValueError: It is not one of sasa ablate.
    """
    path = Path(folder) / "results.json"
    if not path.is_file():
        raise FileNotFoundError(f"no results.json in {folder}; expected the folder of sasa ablate (--out)")
    content = json.loads(path.read_text(encoding="utf-8"))
    if not {"sweeps", "runs"} <= content.keys():
        raise ValueError(
            f"{path}: expected sweeps and runs, as sasa ablate writes; a single run has no report"
        )
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
        claims = [judge(by_name[better], by_name[worse]) for better, worse in described["claims"]]
        texts = {key: described[key] for key in ("name", "title", "paper", "note")}
        sweeps.append(Sweep(**texts, cells=cells, claims=claims))
    return sorted(sweeps, key=lambda sweep: (not sweep.name.startswith("table"), sweep.name))


def judge(better: Cell, worse: Cell) -> Claim:
    """Test the claim that one cell is above another, by Welch's t-test of the accuracies over the seeds."""
    paper = None if better.paper is None or worse.paper is None else better.paper - worse.paper
    if better.mean is None or worse.mean is None:
        return Claim(better.name, worse.name, paper, None, None, None, "undecided")
    difference = better.mean - worse.mean
    p = welch_p_value(better.top1, worse.top1)
    error = None
    if better.error is not None and worse.error is not None:
        error = (better.error**2 + worse.error**2) ** 0.5
    verdict: Verdict = "undecided"
    if p is not None and p < LEVEL:
        verdict = "agree" if difference > 0 else "disagree"
    return Claim(better.name, worse.name, paper, difference, error, p, verdict)
