"""sasa ablate."""

from __future__ import annotations

import argparse

HELP = "train the sweeps of the paper's tables: sasa ablate table5 --out runs/ablation"
OWN_PARSER = True


def run(args: argparse.Namespace) -> None:
    """Plan and run; what the parser does not know are overrides as of sasa train."""
    from pathlib import Path

    from sasa.cli import Parser
    from sasa.cli.results import first_process, quiet_lightning

    quiet_lightning()
    import sasa.train

    plan_sweeps = sasa.train.plan_sweeps  # first: it says what to install where a package is missing
    from sasa.train.ablation.sweep_files import RECIPE, sweep_names

    parser = Parser(
        prog="sasa ablate",
        usage="sasa ablate SWEEP [SWEEP ...] [--out DIR] [...] [--KEY VALUE ...]",
        description="Train every cell of sweeps over several seeds; the same command again goes on where it "
        "stopped. Any --KEY VALUE of sasa train changes all cells, such as --model.options.width_mult 0.5.",
        allow_abbrev=False,
    )
    names = ", ".join(sweep_names())
    parser.add_argument("sweeps", nargs="+", metavar="SWEEP", help=f"{names}, or a YAML file like theirs")
    parser.add_argument("--config", default=RECIPE, metavar="FILE", help="recipe (default: one for a CPU)")
    parser.add_argument("--data", metavar="SOURCE", help="images, short for --data.source")
    parser.add_argument("--epochs", metavar="N", help="short for --optimizer.epochs")
    parser.add_argument(
        "--seeds", type=int, default=3, metavar="N", help="runs a cell (default: %(default)s)"
    )
    parser.add_argument(
        "--out", default="runs/ablation", metavar="DIR", help="folder of the results (default: %(default)s)"
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=1,
        metavar="N",
        help="runs at a time, which share the threads (default: 1)",
    )
    parser.add_argument(
        "--budget",
        type=float,
        metavar="MINUTES",
        help="stop training after so long; the same command goes on",
    )
    parser.add_argument(
        "--dry_run", action="store_true", help="list the cells with their costs, train nothing"
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

        if first_process():
            print(cost_table(sweeps, Path(known.out), known.seeds))
        return
    table = sasa.train.ablate(sweeps, known.out, seeds=known.seeds, jobs=known.jobs, minutes=known.budget)
    if first_process():
        print(f"results: {table}; sasa report {known.out} draws them")
