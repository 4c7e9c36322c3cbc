"""sasa push."""

from __future__ import annotations

import argparse

HELP = "upload a trained classifier to the Hugging Face Hub"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the arguments."""
    parser.add_argument("run", metavar="RUN", help="folder of a finished run")
    parser.add_argument("name", metavar="OWNER/NAME", help="the repository, which is created if it is new")
    parser.add_argument("--private", action="store_true", help="make a new repository private")
    parser.add_argument(
        "--folder", help="write the files to this folder instead: weights, config.json and the model card"
    )


def run(args: argparse.Namespace) -> None:
    """Upload, or write, and print where."""
    from sasa.deploy import push, write_repository

    if args.folder is None:
        print(push(args.run, args.name, private=args.private))
    else:
        write_repository(args.run, args.folder, args.name)
        print(args.folder)
