"""sasa report."""

from __future__ import annotations

import argparse

HELP = "write a report of sweeps as HTML and Markdown: sasa report runs/ablation"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the arguments."""
    parser.add_argument("folder", metavar="DIR", help="folder written by sasa ablate")
    parser.add_argument(
        "--out", metavar="FOLDER", help="folder for the report and a copy of the tables (default: DIR)"
    )


def run(args: argparse.Namespace) -> None:
    """Write the report, and print its paths."""
    from sasa.report import write_report

    for path in write_report(args.folder, args.out):
        print(f"wrote {path}")
