"""The cost of sweeps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sasa.train.ablation.plan import Sweep, check_seeds
from sasa.train.ablation.processes import finished
from sasa.train.ablation.tables import recorded_runs


def cost_table(sweeps: Sequence[Sweep], out: Path, seeds: int) -> str:
    """The cells with parameters, FLOPs per image and per run, and the number of finished runs, as text.

    Args:
        sweeps: The sweeps, from `plan_sweeps`.
        out: The folder of the runs.
        seeds: Number of runs per cell.

    Raises:
        ValueError: seeds is less than 1.
    """
    check_seeds(seeds)
    lines = []
    recorded = recorded_runs(out)
    remaining: dict[Path, int] = {}
    for sweep in sweeps:
        lines += [f"{sweep.name}: {sweep.title}" + (f" ({sweep.paper})" if sweep.paper else "")]
        width = max(len(cell.name) for cell in sweep.cells)
        for cell in sweep.cells:
            folders = [cell.folder(out, seed) for seed in range(seeds)]
            to_do = [folder for folder in folders if folder not in recorded and finished(folder) is None]
            remaining |= dict.fromkeys(to_do, cell.training_flops)
            training = f"{cell.training_flops / 1e12:.3g} T FLOPs"
            lines.append(
                f"  {cell.name:<{width}}  {cell.hash}  {cell.cost}, training {training} per run, "
                f"{seeds - len(to_do)} of {seeds} runs finished"
            )
    lines.append(
        f"{len(remaining)} runs remain, {sum(remaining.values()) / 1e12:.3g} T FLOPs; "
        "equal cells share their runs"
    )
    return "\n".join(lines)
