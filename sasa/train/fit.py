"""What every training run does, whatever it trains: its folder, its Trainer, the fit and its weights."""

from __future__ import annotations

import dataclasses
import json
import logging
import resource
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from sasa.train.atomic import replacing
from sasa.train.checkpoints import AtomicCheckpointIO, EpochCheckpoints, newest_readable, read_checkpoint
from sasa.train.config import RunConfig
from sasa.train.config_files import Config, load_config, save_config
from sasa.train.learner import Learner
from sasa.train.loaders import RunData
from sasa.train.metrics_table import MetricsTable
from sasa.train.trainer import Bar, environment, make_trainer, quiet

_logger = logging.getLogger(__name__)

CONFIG_FILE, RESULTS_FILE = "config.yaml", "results.json"
_CHECKPOINTS = "checkpoints"


def require_new(config: RunConfig) -> None:
    """Raise FileExistsError if the run folder holds a run already."""
    folder = config.folder
    if _first_process() and (folder / CONFIG_FILE).exists():
        raise FileExistsError(
            f"run: {folder} holds a run already; go on with it ({config.command} --resume {folder}), "
            "name another folder (--run), or remove it"
        )


def stopped_run(folder: Path, kind: type[Config]) -> tuple[Config, Path | None]:
    """Configuration and newest readable checkpoint, None before its first epoch's, of a run to go on with.

    Raises:
        FileNotFoundError: there is no run in the folder.
        FileExistsError: the run is finished.
        ValueError: none of its checkpoints can be read, or it is a run of another kind.
    """
    if not (folder / CONFIG_FILE).is_file():
        raise FileNotFoundError(f"--resume: no run in {folder} (it has no {CONFIG_FILE})")
    if (folder / RESULTS_FILE).exists():
        raise FileExistsError(f"--resume: the run in {folder} is finished; see its {RESULTS_FILE}")
    # Every kind is a dataclass, which mypy cannot know of their common base.
    config: Config = dataclasses.replace(load_config(folder / CONFIG_FILE, kind), run=str(folder))  # type: ignore[type-var]
    checkpoint = newest_readable(folder / _CHECKPOINTS)
    if _first_process():
        start = "the beginning: it has no checkpoint yet" if checkpoint is None else checkpoint.stem
        _logger.info("resuming %s from %s", folder, start)
    return config, checkpoint


def _first_process() -> bool:
    return getattr(rank_zero_only, "rank") == 0  # noqa: B009


def training_trainer(config: RunConfig, steps_per_epoch: int, scores: Mapping[str, str | None]) -> Trainer:
    """The Trainer of a run, with metrics table, checkpoints, progress bar and TensorBoard.

    Args:
        config: the run's.
        steps_per_epoch: optimizer steps of an epoch.
        scores: see MetricsTable; the first of them chooses the best checkpoint.

    Raises:
        ValueError: the batch cannot be divided among the processes, or the machine lacks the precision.
    """
    folder, recipe = config.folder, config.optimizer
    interactive = sys.stdout.isatty()
    table = MetricsTable(folder / "metrics.csv", scores, recipe.batch_size, echo=not interactive)
    checkpoints = EpochCheckpoints(folder / _CHECKPOINTS, next(iter(scores)))
    trainer = make_trainer(
        config.runtime,
        callbacks=[table, checkpoints, *([Bar()] if interactive else [])],
        enable_progress_bar=interactive,
        logger=TensorBoardLogger(folder, name="", version="tensorboard"),
        plugins=[AtomicCheckpointIO()],
        default_root_dir=folder,
        max_epochs=recipe.epochs,
        limit_train_batches=steps_per_epoch * recipe.grad_accum_steps,
        accumulate_grad_batches=recipe.grad_accum_steps,
        gradient_clip_val=recipe.clip_grad,
        log_every_n_steps=min(50, steps_per_epoch * recipe.grad_accum_steps),
        num_sanity_val_steps=0,
    )
    parts = trainer.world_size * recipe.grad_accum_steps
    if recipe.batch_size % parts:
        raise ValueError(
            "optimizer.batch_size must be divisible by processes x optimizer.grad_accum_steps = "
            f"{trainer.world_size} x {recipe.grad_accum_steps}, got {recipe.batch_size}"
        )
    return trainer


@dataclasses.dataclass(frozen=True)
class Fitted:
    """What a fit leaves behind.

    Attributes:
        state: parameters and buffers of the network whose predictions count.
        rows: the metrics table's.
        steps: optimizer steps.
    """

    state: dict[str, Tensor]
    rows: list[dict[str, float]]
    steps: int


def fit(
    trainer: Trainer, learner: Learner, data: RunData, config: RunConfig, checkpoint: Path | None
) -> Fitted:
    """Write the run's configuration, and train from a checkpoint, None for the beginning, to the end."""
    folder = config.folder
    if trainer.is_global_zero:
        (folder / _CHECKPOINTS).mkdir(parents=True, exist_ok=True)
        if not (folder / CONFIG_FILE).exists():
            save_config(config, folder / CONFIG_FILE)
    with quiet(trainer):
        trainer.fit(learner, data, ckpt_path=checkpoint, weights_only=True)

    # The weights are taken from the checkpoint, which is whole under every strategy.
    newest = newest_readable(folder / _CHECKPOINTS)
    assert newest is not None, "every epoch ends with a checkpoint"
    final = read_checkpoint(newest)
    prefix = "network." if learner.ema is None else "ema.module."
    state = {
        name.removeprefix(prefix): value
        for name, value in final["state_dict"].items()
        if name.startswith(prefix)
    }
    return Fitted(state, final["callbacks"]["MetricsTable"]["rows"], final["global_step"])


def circumstances(fitted: Fitted, trainer: Trainer, config: RunConfig, started: float) -> dict[str, Any]:
    """How long a run took, since started on time.perf_counter, and on what."""
    return {
        "epochs": config.optimizer.epochs,
        "steps": fitted.steps,
        "training_seconds": round(sum(row["seconds"] for row in fitted.rows), 3),
        "process_seconds": round(time.perf_counter() - started, 3),
        "peak_memory_bytes": _peak_memory(trainer.strategy.root_device),
        "processes": trainer.world_size,
        **environment(trainer),
    }


def _peak_memory(device: torch.device) -> int:
    """Most memory that this process held so far: torch's of a GPU; on a CPU all that was resident."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def write_json(content: Any, path: Path) -> None:
    """Write a JSON file as a whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")
