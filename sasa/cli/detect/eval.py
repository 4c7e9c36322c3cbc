"""sasa detect eval."""

from __future__ import annotations

import argparse

HELP = "evaluate a trained detector with COCO's metrics"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the arguments."""
    parser.add_argument("--run", required=True, help="run folder or .safetensors file")
    parser.add_argument(
        "--data",
        help="folder or archive in COCO's, VOC's or YOLO's layout, or a .json (COCO) or .yaml (YOLO) file "
        "(default: the data that the detector was trained on, with their options; scenes if unknown)",
    )
    parser.add_argument("--split", default="test", help="split of the data (default: %(default)s)")
    parser.add_argument("--images", help="folder of the images of a .json file (default: the file's folder)")
    parser.add_argument("--batch_size", type=int, default=8, help="images per batch (default: %(default)s)")
    parser.add_argument("--num_workers", type=int, default=0, help="loader processes (default: %(default)s)")
    parser.add_argument(
        "--skip_invalid", action="store_true", help="leave out objects with invalid boxes instead of stopping"
    )
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="option for the scenes, such as length=100; may be repeated",
    )
    parser.add_argument(
        "--results", metavar="FILE", help="write the detections to this file, in COCO's results format"
    )
    parser.add_argument("--json", metavar="FILE", help="also write the metrics to this file")


def run(args: argparse.Namespace) -> None:
    """Evaluate and print."""
    from pathlib import Path

    from sasa.train import evaluate_detector
    from sasa.train.atomic import write_json
    from sasa.train.config_files import parse_key_values
    from sasa.train.console import hide_lightning_notices, is_first_process

    hide_lightning_notices()
    results = evaluate_detector(
        args.run,
        args.data,
        args.split,
        images=args.images,
        batch_size=args.batch_size,
        num_workers=args.num_workers,
        on_invalid="skip" if args.skip_invalid else "raise",
        results_file=args.results,
        **parse_key_values(args.option, evaluate_detector),
    )
    if is_first_process():
        from sasa.report import format_data, format_detection

        print(format_data(results))
        print(format_detection(results))
        if args.json is not None:
            write_json(results, Path(args.json))
