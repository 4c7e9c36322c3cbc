"""sasa eval."""

from __future__ import annotations

import argparse

HELP = "evaluate a trained classifier on images"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the arguments."""
    parser.add_argument(
        "--run",
        default="built-in",
        help="run folder or .safetensors file (default: built-in, the classifier that comes with sasa)",
    )
    parser.add_argument(
        "--data",
        help="image folder, archive or name of a data set of timm (default: the folder or archive that the "
        "weights were trained on; fashion-mnist if unknown)",
    )
    parser.add_argument("--split", default="test", help="split of the data (default: %(default)s)")
    parser.add_argument("--batch_size", type=int, default=128, help="images per batch (default: %(default)s)")
    parser.add_argument("--num_workers", type=int, default=0, help="loader processes (default: %(default)s)")
    parser.add_argument(
        "--skip_broken", action="store_true", help="leave out broken images instead of stopping at the first"
    )
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="option of the data, such as test_fraction=0.2 or root=FOLDER for timm; may be repeated",
    )
    parser.add_argument("--json", metavar="FILE", help="also write the results to this file")


def run(args: argparse.Namespace) -> None:
    """Evaluate and print."""
    from pathlib import Path

    from sasa.train import evaluate
    from sasa.train.atomic import write_json
    from sasa.train.config_files import parse_key_values
    from sasa.train.console import hide_lightning_notices, is_first_process

    hide_lightning_notices()
    results = evaluate(
        args.run,
        args.data,
        args.split,
        batch_size=args.batch_size,
        num_workers=args.num_workers,
        on_broken="skip" if args.skip_broken else "raise",
        **parse_key_values(args.option, evaluate),
    )
    if is_first_process():
        from sasa.report import format_classification, format_data

        print(format_data(results))
        print(format_classification(results))
        if args.json is not None:
            write_json(results, Path(args.json))
