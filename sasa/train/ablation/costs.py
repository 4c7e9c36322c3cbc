"""What sweeps would cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sasa.train.ablation.plan import Sweep, check_seeds
from sasa.train.ablation.processes import finished


def cost_table(sweeps: Sequence[Sweep], out: Path, seeds: int) -> str:
    """The cells with parameters, FLOPs of an image and of a run, and how many of their runs are done.

    Raises:
        ValueError: seeds is less than 1.
    """
    check_seeds(seeds)
    lines = []
    left: dict[Path, int] = {}
    for sweep in sweeps:
        lines += [f"{sweep.name}: {sweep.title}" + (f" ({sweep.paper})" if sweep.paper else "")]
        width = max(len(cell.name) for cell in sweep.cells)
        for cell in sweep.cells:
            folders = [cell.folder(out, seed) for seed in range(seeds)]
            to_do = [folder for folder in folders if finished(folder) is None]
            left |= dict.fromkeys(to_do, cell.training_flops)
            training = f"{cell.training_flops / 1e12:.3g} T FLOPs"
            lines.append(
                f"  {cell.name:<{width}}  {cell.hash}  {cell.cost}, training {training} a run, "
                f"{seeds - len(to_do)} of {seeds} runs done"
            )
    lines.append(
        f"{len(left)} runs to do, {sum(left.values()) / 1e12:.3g} T FLOPs; equal cells share their runs"
    )
    return "\n".join(lines)
