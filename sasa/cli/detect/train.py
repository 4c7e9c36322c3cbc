"""sasa detect train."""

from __future__ import annotations

import argparse

HELP = "train a detector: sasa detect train --config recipes/FILE.yaml, or --resume RUN"
OWN_PARSER = True


def run(args: argparse.Namespace) -> None:
    """Train or resume; the arguments are --resume RUN, or --config FILE and overrides."""
    from sasa.train import DetectionConfig, detect_in_test_images, resume, train
    from sasa.train.config_files import Resumption, parse_run
    from sasa.train.console import hide_lightning_notices, is_first_process

    hide_lightning_notices()
    new = parse_run(args.arguments, DetectionConfig)
    if isinstance(new, Resumption):
        results = resume(new.folder, accept_images=new.accept_images)
    else:
        results = train(new)
    if is_first_process():
        import numpy as np

        from sasa.report import DrawnBoxes, draw_box_rows, draw_learning_curves, format_detection

        print(format_detection(results))
        print(f"learning curves: {draw_learning_curves(new.folder)}")
        images = detect_in_test_images(new.folder)
        truths = [image.ground_truth for image in images]
        detections = [image.detections for image in images]
        rows = {
            "annotated": [DrawnBoxes(x.boxes, x.labels, x.names) for x in truths],
            "detected": [DrawnBoxes(x.boxes, x.labels, x.names, x.scores) for x in detections],
        }
        pictures = [np.asarray(image.image) for image in images]
        print(f"detections: {draw_box_rows(pictures, rows, new.folder / 'detections.png')}")
