"""sasa eval."""

from __future__ import annotations

import argparse

HELP = "evaluate trained weights on images"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the arguments."""
    parser.add_argument(
        "--run",
        help="run folder or .safetensors file (default: built-in, the network that comes with sasa)",
    )
    parser.add_argument(
        "--data",
        help="image folder, archive or timm's name (default: the files that the weights were trained "
        "on; fashion-mnist if they do not say)",
    )
    parser.add_argument("--split", default="test", help="split of the data (default: %(default)s)")
    parser.add_argument("--batch_size", type=int, default=128, help="images at a time (default: %(default)s)")
    parser.add_argument(
        "--num_workers", type=int, default=0, help="processes that load images (default: %(default)s)"
    )
    parser.add_argument(
        "--skip_broken", action="store_true", help="leave out broken images instead of stopping at one"
    )
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="for timm's readers only, such as root=FOLDER; may be given several times",
    )
    parser.add_argument("--json", metavar="FILE", help="write the result to this file as well")


def run(args: argparse.Namespace) -> None:
    """Evaluate and print."""
    from sasa.cli.results import key_values, quiet_lightning, show, show_data, write

    quiet_lightning()
    import sasa.train

    results = sasa.train.evaluate(
        args.run or sasa.train.BUILT_IN_WEIGHTS,
        args.data,
        args.split,
        batch_size=args.batch_size,
        num_workers=args.num_workers,
        on_broken="skip" if args.skip_broken else "raise",
        **key_values(args.option, sasa.train.evaluate),
    )
    show_data(results)
    show(results)
    write(results, args.json)
