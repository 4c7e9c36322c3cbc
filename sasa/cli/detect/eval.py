"""sasa detect eval."""

from __future__ import annotations

import argparse

HELP = "evaluate a trained detector by COCO's rules"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the arguments."""
    parser.add_argument("--run", required=True, help="run folder or .safetensors file")
    parser.add_argument(
        "--data",
        help="folder or archive in COCO's or VOC's layout, or a COCO .json file (default: what the detector "
        "was trained on, with its options; scenes if its weights do not say)",
    )
    parser.add_argument("--split", default="test", help="split of the data (default: %(default)s)")
    parser.add_argument("--images", help="folder of the images of a .json file (default: the file's own)")
    parser.add_argument("--batch_size", type=int, default=8, help="images at a time (default: %(default)s)")
    parser.add_argument(
        "--num_workers", type=int, default=0, help="processes that load images (default: %(default)s)"
    )
    parser.add_argument(
        "--skip_invalid", action="store_true", help="leave out objects with wrong boxes instead of stopping"
    )
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="for the scenes only, such as length=100; may be given several times",
    )
    parser.add_argument(
        "--results", metavar="FILE", help="write the detections to this file, in COCO's results format"
    )
    parser.add_argument("--json", metavar="FILE", help="write the metrics to this file as well")


def run(args: argparse.Namespace) -> None:
    """Evaluate and print."""
    from sasa.cli.detect.results import show
    from sasa.cli.results import key_values, quiet_lightning, show_data, write

    quiet_lightning()
    import sasa.train

    results = sasa.train.evaluate_detector(
        args.run,
        args.data,
        args.split,
        images=args.images,
        batch_size=args.batch_size,
        num_workers=args.num_workers,
        on_invalid="skip" if args.skip_invalid else "raise",
        results_file=args.results,
        **key_values(args.option, sasa.train.evaluate_detector),
    )
    show_data(results)
    show(results)
    write(results, args.json)
