"""sasa tables."""

from __future__ import annotations

import argparse

HELP = "print the paper's tables 1 and 3 to 7, our costs beside the printed ones"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the arguments."""
    parser.add_argument(
        "--table", type=int, nargs="+", metavar="N", help="numbers of the tables to print (default: all)"
    )


def run(args: argparse.Namespace) -> None:
    """Print them as Markdown."""
    from sasa.models.paper_tables import render

    print(render(args.table))
