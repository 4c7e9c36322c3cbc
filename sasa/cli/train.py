"""sasa train."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "train a classifier: sasa train --config recipes/FILE.yaml, or --resume RUN_FOLDER"
OWN_PARSER = True


def run(args: argparse.Namespace) -> None:
    """Train or resume; the arguments are --resume FOLDER, or --config FILE and overrides."""
    from sasa.cli.results import first_process, quiet_lightning, show

    quiet_lightning()
    resume = argparse.ArgumentParser(prog="sasa train", add_help=False, allow_abbrev=False)
    resume.add_argument("--resume", nargs="?", const="")
    known, rest = resume.parse_known_args(args.arguments)
    if known.resume == "":
        raise ValueError("--resume needs the run's folder; see sasa train --help")
    if known.resume is not None and rest:
        raise ValueError(f"--resume takes the configuration from the run folder; leave out {' '.join(rest)}")
    import sasa.train

    if known.resume is not None:
        folder = Path(known.resume)
        results = sasa.train.resume(folder)
    else:
        config = sasa.train.parse_config(rest)
        folder = config.folder
        results = sasa.train.train(config)
    show(results)
    if first_process():
        from sasa.report import draw_learning_curves

        print(f"learning curves: {draw_learning_curves(folder)}")
