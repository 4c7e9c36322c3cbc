"""sasa compare."""

from __future__ import annotations

import argparse

HELP = "compare two runs or recipes: accuracy, cost, speed, memory"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the arguments."""
    parser.add_argument("first", metavar="RUN", help="run folder or recipe (A in the output)")
    parser.add_argument("second", metavar="RUN", help="run folder or recipe (B in the output)")
    parser.add_argument("--json", metavar="FILE", help="also write the comparison to this file")


def run(args: argparse.Namespace) -> None:
    """Compare and print."""
    import dataclasses
    from pathlib import Path

    from sasa.report import format_comparison
    from sasa.train import compare
    from sasa.train.atomic import write_json

    comparison = dataclasses.asdict(compare(args.first, args.second))
    print(format_comparison(comparison))
    if args.json is not None:
        write_json(comparison, Path(args.json))
