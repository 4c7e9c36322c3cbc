"""sasa train."""

from __future__ import annotations

import argparse

HELP = "train a classifier: sasa train --config recipes/FILE.yaml, or --resume RUN"
OWN_PARSER = True


def run(args: argparse.Namespace) -> None:
    """Train or resume; the arguments are --resume RUN, or --config FILE and overrides."""
    from sasa.train import TrainConfig, resume, train
    from sasa.train.config_files import Resumption, parse_run
    from sasa.train.console import hide_lightning_notices, is_first_process

    hide_lightning_notices()
    new = parse_run(args.arguments, TrainConfig)
    if isinstance(new, Resumption):
        results = resume(new.folder, accept_images=new.accept_images)
    else:
        results = train(new)
    if is_first_process():
        from sasa.report import draw_learning_curves, format_classification

        print(format_classification(results))
        print(f"learning curves: {draw_learning_curves(new.folder)}")
