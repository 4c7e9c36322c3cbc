"""sasa detect train."""

from __future__ import annotations

import argparse

HELP = "train a detector: sasa detect train --config recipes/FILE.yaml, or --resume RUN"
OWN_PARSER = True


def run(args: argparse.Namespace) -> None:
    """Train or resume; the arguments are --resume FOLDER, or --config FILE and overrides."""
    from sasa.cli.detect.results import drawn, show
    from sasa.cli.results import first_process, quiet_lightning
    from sasa.cli.training import train_or_resume

    quiet_lightning()
    import sasa.train

    folder, results = train_or_resume(
        args.arguments,
        sasa.train.DetectionConfig,
        sasa.train.train_detector,
        sasa.train.resume_detector,
    )
    show(results)
    if first_process():
        import numpy as np

        from sasa.report import draw_box_rows, draw_learning_curves

        print(f"learning curves: {draw_learning_curves(folder)}")
        held_out = sasa.train.detect_in_test_images(folder)
        rows = {
            "annotated": [drawn(example.annotated, scores=False) for example in held_out],
            "detected": [drawn(example.found, scores=True) for example in held_out],
        }
        pictures = [np.asarray(example.image) for example in held_out]
        print(f"detections: {draw_box_rows(pictures, rows, folder / 'detections.png')}")
