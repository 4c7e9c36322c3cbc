"""What `sasa train` and `sasa detect train` share."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from sasa.train.config import RunConfig

Config = TypeVar("Config", bound=RunConfig)
Results = dict[str, Any]


def train_or_resume(
    arguments: Sequence[str],
    kind: type[Config],
    train: Callable[[Config], Results],
    resume: Callable[[Path], Results],
) -> tuple[Path, Results]:
    """Train or go on, and return run folder and results.

    Args:
        arguments: --resume FOLDER, or --config FILE and overrides.
        kind: of the configuration.
        train: starts a run.
        resume: goes on with one.
    """
    from sasa.train import parse_config

    parser = argparse.ArgumentParser(prog=kind.command, add_help=False, allow_abbrev=False)
    parser.add_argument("--resume", nargs="?", const="")
    known, rest = parser.parse_known_args(arguments)
    if known.resume == "":
        raise ValueError(f"--resume needs the run's folder; see {kind.command} --help")
    if known.resume is not None and rest:
        raise ValueError(f"--resume takes the configuration from the run folder; leave out {' '.join(rest)}")
    if known.resume is not None:
        folder = Path(known.resume)
        return folder, resume(folder)
    config = parse_config(rest, kind)
    return config.folder, train(config)
