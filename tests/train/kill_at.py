"""Starts the run of a configuration once for each moment named, and kills it with SIGKILL just there.

    python kill_at.py CONFIG MOMENT:FOLDER …

All runs are forked from this process, before it computes anything, so that torch is imported once.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import sasa.train.run
from sasa.train import load_config, train
from sasa.train.config_files import config_kind
from sasa.train.modules import TrainingModule


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def before(owner: Any, name: str, call: int, action: Callable[..., None]) -> None:
    """Let action run, with the same arguments, before the given call (from 1) of owner.name."""
    original = getattr(owner, name)
    calls = 0

    def replacement(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            action(*args, **kwargs)
        return original(*args, **kwargs)

    setattr(owner, name, replacement)


def half_a_checkpoint(content: Any, path: Path) -> None:
    save(content, path)
    os.truncate(path, path.stat().st_size // 2)
    die()


save = torch.save
# At the end of every epoch of two steps: best.ckpt where it is the best so far, then epoch-NNNN.ckpt. The
# first epoch always is, so the third call of torch.save belongs to the second.
MOMENTS: dict[str, Callable[[], None]] = {
    "in-first-epoch": lambda: before(TrainingModule, "training_step", 2, lambda *_: die()),
    "mid-epoch": lambda: before(TrainingModule, "training_step", 6, lambda *_: die()),
    "in-validation": lambda: before(TrainingModule, "validation_step", 2, lambda *_: die()),
    "writing-checkpoint": lambda: before(torch, "save", 3, half_a_checkpoint),
    "before-first-checkpoint": lambda: before(torch, "save", 2, lambda *_: die()),
    "after-training": lambda: before(sasa.train.run, "save_weights", 1, lambda *_, **__: die()),
}


def main() -> None:
    config = load_config(sys.argv[1], config_kind(sys.argv[1]))
    for argument in sys.argv[2:]:
        moment, _, folder = argument.partition(":")
        child = os.fork()
        if child == 0:
            MOMENTS[moment]()
            train(dataclasses.replace(config, run=folder))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), f"{moment}: the run was not killed"
        assert os.WTERMSIG(status) == signal.SIGKILL, f"{moment}: status {status}"


if __name__ == "__main__":
    main()
