"""sasa report."""

from __future__ import annotations

import argparse

HELP = "write the report of sweeps, HTML and Markdown: sasa report runs/ablation"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the arguments."""
    parser.add_argument("folder", metavar="DIR", help="folder of sasa ablate")
    parser.add_argument(
        "--out", metavar="FOLDER", help="folder of the report and a copy of its tables (default: DIR)"
    )


def run(args: argparse.Namespace) -> None:
    """Write and say where."""
    from sasa.report import write_report

    for path in write_report(args.folder, args.out):
        print(f"wrote {path}")
