"""The report of a folder of sweeps, with the paper's results."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from sasa.report.attention_picture import draw_attention
from sasa.report.documents import Block, Heading, Paragraph, Picture, Table, as_html, as_markdown
from sasa.report.position_attention_picture import draw_position_attention
from sasa.report.sweep_plots import draw_accuracy_against_cost, draw_sweep_curves, metrics_file
from sasa.report.sweeps import LEVEL, Cell, Claim, Sweep, Verdict, read_sweeps
from sasa.report.text import format_flops

_TEST = (
    "± is the standard error of the mean over the seeds. A claim is a pair of networks of which the first is "
    "expected to be more accurate, in the paper or by the author of the sweep. The two-sided paired t-test "
    "compares their accuracies seed by seed. Its p-values are adjusted for the number of claims in the table "
    f"by Holm's method: a claim is supported or contradicted if p < {LEVEL}, and not significant otherwise, "
    "which is always the case with one seed. Tables with the same network share its runs."
)


def write_report(folder: str | Path, out: str | Path | None = None) -> tuple[Path, Path]:
    """Write report.html, a single file, and report.md with its pictures in figures/.

    If the report is written to another folder, results.csv and results.json are copied there. The report has
    no learning curves and attention maps of runs whose folders are not available, and notes it.

    Args:
        folder: A folder written by sasa ablate.
        out: The folder of the report; None means the same folder.

    Returns:
        The HTML file and the Markdown file.

    Raises:
        FileExistsError: out is another folder of sasa ablate, or a run folder.
        FileNotFoundError: The folder has no results.
        ImportError: matplotlib is not installed.
        ValueError: The results are not those of sweeps.
    """
    folder = Path(folder)
    out = folder if out is None else Path(out)
    sweeps = read_sweeps(folder)
    figures = out / "figures"
    if elsewhere := not (out.exists() and out.samefile(folder)):
        for name in ("runs", "config.yaml"):
            if (out / name).exists():
                raise FileExistsError(
                    f"out: expected a folder without results of its own, got {out}, which contains {name}"
                )
    figures.mkdir(parents=True, exist_ok=True)
    if elsewhere:
        for table in ("results.csv", "results.json"):
            shutil.copyfile(folder / table, out / table)
    blocks: list[Block] = [Heading(1, "Ablations of stand-alone self-attention"), Paragraph(_TEST)]
    verdicts: tuple[Verdict, ...] = ("supported", "contradicted", "not significant")
    rows = []
    for sweep in sweeps:
        given = [claim.verdict for claim in sweep.claims]
        rows.append([f"{sweep.name}: {sweep.title}", *(str(given.count(verdict)) for verdict in verdicts)])
    blocks.append(Table(["claims of", *verdicts], rows))
    drawn: set[Path] = set()
    for sweep in sweeps:
        blocks += _section(sweep, folder, figures)
        blocks += _attention(sweep, folder, figures, drawn)
    page, text = out / "report.html", out / "report.md"
    page.write_text(as_html(blocks), encoding="utf-8")
    text.write_text(as_markdown(blocks, out), encoding="utf-8")
    return page, text


def _section(sweep: Sweep, folder: Path, figures: Path) -> list[Block]:
    blocks: list[Block] = [Heading(2, f"{sweep.name}: {sweep.title}")]
    if sweep.paper:
        blocks.append(Paragraph(f"The paper: {sweep.paper}."))
    if sweep.note:
        blocks.append(Paragraph(sweep.note))
    blocks.append(Paragraph(_conditions(sweep)))
    header = ["network", "seeds", "parameters", "FLOPs", "ms per image", "training, min", "memory, MB"]
    header += ["top-1, %", "top-1, %: paper"]
    blocks.append(Table(header, [_row(cell) for cell in sweep.cells]))
    if sweep.claims:
        header = ["claim", "paper", "ours", "p", "verdict"]
        blocks.append(Table(header, [_judgment(claim) for claim in sweep.claims]))
    cost = draw_accuracy_against_cost(sweep, figures / f"{sweep.name}-cost.svg")
    curves = draw_sweep_curves(sweep, folder, figures / f"{sweep.name}-curves.svg")
    for path, caption in (
        (cost, "Test accuracy against FLOPs, parameters and measured inference time, with standard errors."),
        (curves, "Training loss and validation accuracy, mean and standard error over the seeds."),
    ):
        if path is not None:
            blocks.append(Picture(path, f"{sweep.name}. {caption}"))
    runs = [run for cell in sweep.cells for run in cell.runs]
    if missing := [run for run in runs if not metrics_file(run, folder).is_file()]:
        blocks.append(
            Paragraph(
                f"{len(missing)} of {len(runs)} runs are in the tables only: their metrics.csv is missing. "
                "They are not in the learning curves, nor in the attention maps if attention.npz is missing."
            )
        )
    return blocks


def _attention(sweep: Sweep, folder: Path, figures: Path, drawn: set[Path]) -> list[Block]:
    """Attention maps of the first run of each cell, once for cells that sweeps share."""
    import numpy as np

    blocks: list[Block] = []
    for cell in sweep.cells:
        runs = [Path(run["run"]) for run in cell.runs if (folder / run["run"] / "attention.npz").is_file()]
        if not runs or runs[0] in drawn:
            continue
        drawn.add(runs[0])
        with np.load(folder / runs[0] / "attention.npz") as file:
            arrays = dict(file)
        query_maps, position_maps = (
            {key.removeprefix(kind): array for key, array in arrays.items() if key.startswith(kind)}
            for kind in ("query/", "position/")
        )
        where, name = f"{sweep.name}, {cell.name}", runs[0].parent.name
        row, col = arrays["query"].tolist()
        path = draw_attention(
            arrays["pictures"],
            query_maps,
            figures / f"attention-{name}.png",
            query=(row, col),
            captions=arrays["captions"].tolist(),
        )
        blocks.append(
            Picture(
                path, f"{where}: attention of the pixel + in the last layer of the stem and of each stage."
            )
        )
        if position_maps:
            path = draw_position_attention(position_maps, figures / f"relative-{name}.png")
            caption = (
                "attention from the relative embeddings alone, softmax(q·r), mean over pixels and images."
            )
            blocks.append(Picture(path, f"{where}: {caption}"))
    return blocks


def _conditions(sweep: Sweep) -> str:
    """The conditions of the runs; values that differ are listed."""
    runs = [run for cell in sweep.cells for run in cell.runs]
    if not runs:
        return "Our runs: none is finished."

    def values(key: str, unit: str = "") -> str:
        return " and ".join(
            f"{value:,}{unit}" if isinstance(value, int) else f"{value}{unit}" for value in _all(key)
        )

    def _all(key: str) -> list[Any]:
        return list(dict.fromkeys(run[key] for run in runs if run[key] is not None))

    text = (
        f"Our runs: {values('data')}, {values('training_images')} training images, "
        f"epochs: {values('epochs')}, "
        f"{values('precision')}, trained on {values('device')} with sasa {values('sasa')} and torch "
        f"{values('torch')}. Training time and peak memory are means over the seeds."
    )
    if "cpu" in _all("device"):
        text += " On a CPU, memory is that of the whole process, including Python and torch."
    if _all("inference_device"):
        text += (
            f" Times per image were measured on {values('inference_device')}, threads: "
            f"{values('inference_threads')}."
        )
    return text


def _row(cell: Cell) -> list[str]:
    return [
        cell.name,
        str(len(cell.runs)),
        f"{cell.parameters / 1e6:.2f} M",
        format_flops(cell.flops),
        "–" if cell.milliseconds is None else f"{cell.milliseconds:.3g}",
        "–" if cell.training_minutes is None else f"{cell.training_minutes:.1f}",
        "–" if cell.peak_megabytes is None else f"{cell.peak_megabytes:.0f}",
        _with_error(cell.mean, cell.error),
        "–" if cell.paper is None else f"{cell.paper:.1f}",
    ]


def _judgment(claim: Claim) -> list[str]:
    return [
        f"{claim.better} > {claim.worse}",
        "–" if claim.paper is None else f"{claim.paper:+.1f}",
        _with_error(claim.difference, claim.error, sign="+"),
        "–" if claim.p is None else "< 0.001" if claim.p < 0.001 else f"{claim.p:.3f}",
        claim.verdict,
    ]


def _with_error(value: float | None, error: float | None, sign: str = "") -> str:
    if value is None:
        return "–"
    return f"{value:{sign}.2f}" + ("" if error is None else f" ± {error:.2f}")
