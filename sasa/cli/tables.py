"""sasa tables."""

from __future__ import annotations

import argparse

HELP = "print the paper's tables with our costs next to the printed ones"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the arguments."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--table", type=int, nargs="+", metavar="N", help="numbers of tables, 1 and 3 to 7 (default: all)"
    )
    which.add_argument("--detection", action="store_true", help="print Table 2, the detectors, instead")


def run(args: argparse.Namespace) -> None:
    """Print the tables as Markdown."""
    if args.detection:
        from sasa.detection.paper_table import render as render_detection

        print(render_detection())
        return
    from sasa.models.paper_tables import render

    print(render(args.table))
