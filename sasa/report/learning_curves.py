"""Learning curves of a run, from its metrics.csv."""

from __future__ import annotations

import csv
from pathlib import Path

from sasa.report.matplotlib_figure import new_figure


def draw_learning_curves(run: str | Path, out: str | Path | None = None) -> Path:
    """Draw loss and accuracy, or average precision, over the epochs of a run.

    Args:
        run: A run folder with a metrics.csv.
        out: The picture file; None means curves.png in the run folder.

    Returns:
        The picture file.

    Raises:
        FileNotFoundError: There is no metrics.csv.
        ImportError: matplotlib is not installed.
    """
    run = Path(run)
    table = run / "metrics.csv"
    if not table.is_file():
        raise FileNotFoundError(f"run: expected a run folder with metrics.csv, got {run}")
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    epochs = [int(row["epoch"]) for row in rows]
    figure = new_figure(8, 3.2)
    loss, scores = figure.subplots(1, 2)
    # Colors that color-blind readers can distinguish, and dashes for print without color.
    for name, label, style in (
        ("train_loss", "training", {"color": "#0072B2", "linestyle": "-"}),
        ("val_loss", "validation", {"color": "#D55E00", "linestyle": "--"}),
    ):
        loss.plot(epochs, [float(row[name]) for row in rows], label=label, marker=".", **style)
    loss.set(xlabel="epoch", ylabel="loss")
    loss.legend(frameon=False)
    names, colors = {"val_top1": "top-1", "val_AP": "AP", "val_AP50": "AP50"}, ("#D55E00", "#009E73")
    drawn = [name for name in names if name in rows[0]]
    for name, color in zip(drawn, colors, strict=False):
        values = [100 * float(row[name]) for row in rows]
        scores.plot(epochs, values, color=color, linestyle="--", marker=".", label=names[name])
    scores.set(xlabel="epoch", ylabel=f"validation {' and '.join(names[name] for name in drawn)}, %")
    if len(drawn) > 1:
        scores.legend(frameon=False)
    for axes in (loss, scores):
        axes.grid(alpha=0.3)
        axes.xaxis.get_major_locator().set_params(integer=True)
    out = run / "curves.png" if out is None else Path(out)
    figure.savefig(out, dpi=150)
    return out
