"""Plots of a sweep: accuracy against cost, and learning curves."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sasa.report.matplotlib_figure import new_figure
from sasa.report.significance import standard_error
from sasa.report.sweeps import Cell, Sweep

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# The colors of Okabe and Ito, which color-blind readers can distinguish, without yellow, which is pale.
# Markers and dashes distinguish the lines in print.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9")
_MARKERS = "osD^vPX*<>"
_DASHES = ("-", "--", "-.", ":")


def _style(index: int) -> dict[str, Any]:
    return {
        "color": _COLORS[index % len(_COLORS)],
        "marker": _MARKERS[index % len(_MARKERS)],
        "linestyle": _DASHES[index % len(_DASHES)],
        "markersize": 5,
        "linewidth": 1.3,
    }


def draw_accuracy_against_cost(sweep: Sweep, out: str | Path) -> Path | None:
    """Draw top-1 with standard errors against FLOPs, parameters and measured time, one panel each.

    Cells of a series are joined by a line in the order of their cost.

    Args:
        sweep: The sweep.
        out: The picture file.

    Returns:
        The picture file; None if no cell has a run.

    Raises:
        ImportError: matplotlib is not installed.
    """
    cells = [cell for cell in sweep.cells if cell.runs]
    if not cells:
        return None
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(cell.series or cell.name, []).append(cell)
    figure = new_figure(9.5, 3.3 + 0.2 * -(-len(groups) // 3))
    panels = figure.subplots(1, 3, sharey=True)
    for axes, label, values in (
        (panels[0], "FLOPs per image, M", {cell.name: cell.flops / 1e6 for cell in cells}),
        (panels[1], "parameters, M", {cell.name: cell.parameters / 1e6 for cell in cells}),
        (panels[2], "measured time per image, ms", {cell.name: cell.milliseconds for cell in cells}),
    ):
        for index, (name, members) in enumerate(groups.items()):
            timed = [(values[cell.name], cell) for cell in members if values[cell.name] is not None]
            points = sorted(timed, key=lambda pair: pair[0] or 0)
            axes.errorbar(
                [x for x, _ in points],
                [cell.mean for _, cell in points],
                [cell.error or 0 for _, cell in points],
                label=name,
                capsize=3,
                **{**_style(index), **({"linestyle": "none"} if len(members) == 1 else {})},
            )
        known = [value for value in values.values() if value is not None]
        if known and max(known) > 4 * min(known):
            scale_by_factors(axes)
        axes.set_xlabel(label)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("test top-1, %")
    _legend(figure, panels[0])
    return _save(figure, out)


def scale_by_factors(axes: Axes) -> None:
    """Make the x axis logarithmic, with plain numbers at 1, 2 and 5 times the powers of ten.

    Matplotlib's default labels, such as 2 × 10², overlap if the axis spans less than two powers of ten.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())


def draw_sweep_curves(sweep: Sweep, folder: str | Path, out: str | Path) -> Path | None:
    """Draw training loss and validation top-1 over the epochs, with the standard error as a band.

    Runs without a metrics.csv are left out.

    Args:
        sweep: The sweep.
        folder: The folder of its runs, written by sasa ablate.
        out: The picture file.

    Returns:
        The picture file; None if no run has metrics.

    Raises:
        ImportError: matplotlib is not installed.
    """
    files = {
        cell.name: [path for run in cell.runs if (path := metrics_file(run, folder)).is_file()]
        for cell in sweep.cells
    }
    drawn = [name for name, paths in files.items() if paths]
    if not drawn:
        return None
    figure = new_figure(9.5, 3.3 + 0.2 * -(-len(drawn) // 3))
    panels = figure.subplots(1, 2)
    for index, name in enumerate(drawn):
        tables = [_metrics(path) for path in files[name]]
        for axes, column, factor in ((panels[0], "train_loss", 1), (panels[1], "val_top1", 100)):
            rows = [[factor * float(row[column]) for row in rows] for rows in zip(*tables, strict=True)]
            epochs = range(1, len(rows) + 1)
            means = [statistics.fmean(row) for row in rows]
            errors = [standard_error(row) or 0 for row in rows]
            style = _style(index)
            # A few markers per line; from 16 epochs on, those of different lines are at different epochs.
            step = max(1, len(rows) // 8)
            axes.plot(epochs, means, label=name, **style, markevery=(index % step, step))
            low, high = zip(*((m - e, m + e) for m, e in zip(means, errors, strict=True)), strict=True)
            axes.fill_between(epochs, low, high, color=style["color"], alpha=0.15, linewidth=0)
    panels[0].set(xlabel="epoch", ylabel="training loss")
    panels[1].set(xlabel="epoch", ylabel="validation top-1, %")
    for axes in panels:
        axes.grid(alpha=0.3)
        axes.xaxis.get_major_locator().set_params(integer=True)
    _legend(figure, panels[0])
    return _save(figure, out)


def metrics_file(run: Mapping[str, Any], folder: str | Path) -> Path:
    """The path of the metrics of a run in results.csv."""
    return Path(folder) / run["run"] / "metrics.csv"


def _metrics(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _legend(figure: Any, axes: Any) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=8)


def _save(figure: Any, out: str | Path) -> Path:
    figure.savefig(out, dpi=150)
    return Path(out)
