"""Checkpoints that survive a kill at any moment: written as whole files, read with weights_only."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from sasa.train.atomic import replacing
from sasa.train.torch_files import load_torch_file

_CONTENTS = {"state_dict", "loops", "optimizer_states", "callbacks"}

_logger = logging.getLogger(__name__)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoints, but each file appears whole or not at all."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        path = Path(path)
        if not path.parent.is_dir():
            raise FileNotFoundError(f"{path.parent}: the folder was removed while the run wrote to it")
        with replacing(path) as temporary:
            torch.save(checkpoint, temporary)


class EpochCheckpoints(Checkpoint):
    """Saves epoch-NNNN.ckpt after every epoch, of which two are kept, and best.ckpt.

    Lightning's ModelCheckpoint stores the absolute path of the folder and loses the best score if the folder
    is moved.
    """

    def __init__(self, folder: Path, score: str) -> None:
        """Set the callback up.

        Args:
            folder: Folder of the checkpoints.
            score: Logged metric in [0, 1] that selects the best checkpoint.
        """
        self._folder = folder
        self._score = score
        self._best = -1.0

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the checkpoints, then remove older ones.

        Here weights_only=False means that the states of optimizer and loops are saved too.
        """
        epoch = trainer.current_epoch + 1
        score = float(trainer.callback_metrics[self._score])
        if score > self._best:
            self._best = score
            # First, so that a run that is killed in between repeats the epoch and this checkpoint.
            trainer.save_checkpoint(self._folder / "best.ckpt", weights_only=False)
        newest = self._folder / f"epoch-{epoch:04}.ckpt"
        trainer.save_checkpoint(newest, weights_only=False)
        if trainer.is_global_zero:
            ours = epoch_checkpoints(self._folder)
            older = [path for path in ours if path.name < newest.name]
            unfinished = self._folder.glob("*.ckpt.tmp")
            for path in (*unfinished, *(path for path in ours if path not in (newest, *older[-1:]))):
                path.unlink()

    def state_dict(self) -> dict[str, Any]:
        return {"best": self._best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._best = state_dict["best"]


def epoch_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of epochs in a folder, oldest first."""
    return sorted(folder.glob("epoch-*.ckpt"))


def newest_readable(folder: Path) -> Path | None:
    """The newest checkpoint that can be read; damaged ones are logged and skipped.

    Args:
        folder: Folder of the checkpoints.

    Returns:
        The checkpoint, or None if there are none because the run was interrupted in its first epoch.

    Raises:
        ValueError: There are checkpoints, but none can be read.
    """
    paths = epoch_checkpoints(folder)
    for path in reversed(paths):
        try:
            read_checkpoint(path)
        except ValueError as error:
            _logger.warning("%s; trying the previous one", error)
        else:
            return path
    if paths:
        raise ValueError(
            f"{folder}: expected a readable checkpoint, got {len(paths)} damaged ones; start a new run"
        )
    return None


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Load a checkpoint with weights_only, with tensors on the CPU.

    Args:
        path: The checkpoint.

    Raises:
        ValueError: The file is damaged, refers to code, or is not a checkpoint of a training run.
    """
    checkpoint = load_torch_file(path, "a checkpoint")
    if not isinstance(checkpoint, dict) or not checkpoint.keys() >= _CONTENTS:
        raise ValueError(f"{path}: expected a checkpoint of a training run, got another file")
    return checkpoint
