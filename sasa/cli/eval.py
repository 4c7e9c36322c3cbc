"""sasa eval."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sasa.train import EvaluationDetails

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
    parser.add_argument(
        "--out",
        metavar="FOLDER",
        help="write accuracy by class (by_class.csv), the confusion matrix (confusion.csv, confusion.png) "
        "and the most confident mistakes (mistakes.png) to this folder",
    )
    parser.add_argument(
        "--mistakes", type=int, default=25, help="how many mistakes --out shows (default: %(default)s)"
    )
    parser.add_argument("--json", metavar="FILE", help="also write the results to this file")


def run(args: argparse.Namespace) -> None:
    """Evaluate and print."""
    from sasa.train import evaluate, evaluate_details
    from sasa.train.atomic import write_json
    from sasa.train.config_files import parse_key_values
    from sasa.train.console import hide_lightning_notices, is_first_process

    hide_lightning_notices()
    options = {
        "batch_size": args.batch_size,
        "num_workers": args.num_workers,
        "on_broken": "skip" if args.skip_broken else "raise",
        **parse_key_values(args.option, evaluate),
    }
    details = None
    if args.out is None:
        results = evaluate(args.run, args.data, args.split, **options)
    else:
        details = evaluate_details(args.run, args.data, args.split, mistakes=args.mistakes, **options)
        results = details.results
    if is_first_process():
        from sasa.report import format_classification, format_data

        if details is not None:
            _write(details, Path(args.out))
        print(format_data(results))
        print(format_classification(results))
        if args.json is not None:
            write_json(results, Path(args.json))


def _write(details: EvaluationDetails, out: Path) -> None:
    """The tables and pictures of an evaluation."""
    from sasa.report import draw_confusion, draw_mistakes, write_accuracy_by_class, write_confusion

    out.mkdir(parents=True, exist_ok=True)
    confusion = details.confusion.numpy()
    write_accuracy_by_class(details.results["by_class"], out / "by_class.csv")
    write_confusion(confusion, details.classes, out / "confusion.csv")
    draw_confusion(confusion, details.classes, out / "confusion.png")
    if details.mistakes:
        draw_mistakes(
            [mistake.image.numpy() for mistake in details.mistakes],
            [f"{m.label}\nas {m.predicted}, {m.confidence:.0%}" for m in details.mistakes],
            out / "mistakes.png",
        )
