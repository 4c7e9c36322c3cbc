"""sasa ablate."""

from __future__ import annotations

import argparse

HELP = "train sweeps of the paper's tables: sasa ablate table5 --out runs/ablation"
OWN_PARSER = True


def run(args: argparse.Namespace) -> None:
    """Plan and train; arguments that the parser does not know are overrides, as for sasa train."""
    from pathlib import Path

    from sasa.cli import Parser
    from sasa.train import ablate, plan_sweeps
    from sasa.train.ablation.sweep_files import sweep_names
    from sasa.train.console import hide_lightning_notices, is_first_process

    hide_lightning_notices()
    parser = Parser(
        prog="sasa ablate",
        usage="sasa ablate SWEEP [SWEEP ...] [--out DIR] [...] [--KEY VALUE ...]",
        description="Train every cell of sweeps over several seeds. Repeat a command to continue it. Any "
        "--KEY VALUE of sasa train, such as --model.options.width_mult 0.5, changes all cells.",
        allow_abbrev=False,
    )
    names = ", ".join(sweep_names())
    parser.add_argument("sweeps", nargs="+", metavar="SWEEP", help=f"{names}, or a YAML file")
    parser.add_argument("--config", metavar="FILE", help="recipe (default: small networks, for a CPU)")
    parser.add_argument("--data", metavar="SOURCE", help="short for --data.source")
    parser.add_argument("--epochs", metavar="N", help="short for --optimizer.epochs")
    parser.add_argument(
        "--seeds", type=int, default=3, metavar="N", help="runs per cell (default: %(default)s)"
    )
    parser.add_argument(
        "--out",
        default="runs/ablation",
        metavar="DIR",
        help="folder of the runs and results (default: %(default)s)",
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=1,
        metavar="N",
        help="concurrent runs, which share the threads of torch (default: 1)",
    )
    parser.add_argument(
        "--budget",
        type=float,
        metavar="MINUTES",
        help="stop training after this time; the same command continues",
    )
    parser.add_argument(
        "--dry_run", action="store_true", help="list the cells and their cost without training"
    )
    known, overrides = parser.parse_known_args(args.arguments)
    parser.check_unknown(overrides)
    for short, key in (("data", "data.source"), ("epochs", "optimizer.epochs")):
        value = getattr(known, short)
        if value is not None:
            overrides.append(f"--{key}={value}")
    sweeps = plan_sweeps(known.sweeps, overrides, known.config)
    if known.dry_run:
        from sasa.train.ablation.costs import cost_table

        if is_first_process():
            print(cost_table(sweeps, Path(known.out), known.seeds))
        return
    table = ablate(sweeps, known.out, seeds=known.seeds, jobs=known.jobs, minutes=known.budget)
    if is_first_process():
        print(f"results: {table}; for a report: sasa report {known.out}")
