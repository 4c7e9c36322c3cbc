"""sasa train."""

from __future__ import annotations

import argparse

HELP = "train a classifier: sasa train --config recipes/FILE.yaml, or --resume RUN"
OWN_PARSER = True


def run(args: argparse.Namespace) -> None:
    """Train or resume; the arguments are --resume FOLDER, or --config FILE and overrides."""
    from sasa.cli.results import first_process, quiet_lightning, show
    from sasa.cli.training import train_or_resume

    quiet_lightning()
    import sasa.train

    folder, results = train_or_resume(
        args.arguments, sasa.train.TrainConfig, sasa.train.train, sasa.train.resume
    )
    show(results)
    if first_process():
        from sasa.report import draw_learning_curves

        print(f"learning curves: {draw_learning_curves(folder)}")
