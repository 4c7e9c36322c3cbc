"""Training runs: `train` starts one, `resume` continues one, and `run` is what both do, for any task."""

from __future__ import annotations

import dataclasses
import logging
import resource
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from sasa.train.atomic import write_json
from sasa.train.checkpoints import (
    AtomicCheckpointIO,
    EpochCheckpoints,
    epoch_checkpoints,
    newest_readable,
    read_checkpoint,
)
from sasa.train.classification.config import TrainConfig
from sasa.train.config_files import config_kind, load_config, save_config
from sasa.train.console import is_first_process
from sasa.train.detection.config import DetectionConfig
from sasa.train.metrics_table import MetricsTable
from sasa.train.modules import TrainingModule, evaluate_loader
from sasa.train.run_folder import CHECKPOINTS, CONFIG_FILE, METRICS_FILE, RESULTS_FILE, WEIGHTS_FILE
from sasa.train.run_identity import RunIdentity
from sasa.train.run_lock import run_lock
from sasa.train.task import Task
from sasa.train.trainer import ProgressBar, determinism_restored, environment, lightning_loop, make_trainer
from sasa.train.weights import save_weights

_logger = logging.getLogger(__name__)


def train(config: TrainConfig | DetectionConfig) -> dict[str, Any]:
    """Train a classifier or a detector, evaluate it on the test images, and write the run folder.

    The folder, config.folder, then contains config.yaml, metrics.csv (one row per epoch), tensorboard/,
    checkpoints/, model.safetensors (the evaluated weights: the moving average, unless it is off) and
    results.json.

    Under torchrun, every process calls this function with the same configuration. A run that failed before
    its first checkpoint leaves a folder in which another one can start.

    Args:
        config: The configuration.

    Returns:
        The content of results.json: metrics on the test images, the last validation score, model, data,
        parameters and FLOPs if known, epochs, steps, seconds, peak memory, processes, device and versions.
        For a classifier, the metrics are top1, top5 if there are more than five classes, loss and images; for
        a detector, those of COCO ("AP", "AP50" and so on, each None if undefined, and "by_class"), loss and
        images.

    Raises:
        BlockingIOError: Another process writes to the folder.
        FileExistsError: The folder contains a run.
        FileNotFoundError: The data or the initial weights do not exist.
        FloatingPointError: The loss is not finite.
        ValueError: The data, the model or the configuration are invalid.
    """
    folder = config.folder
    started = (folder / RESULTS_FILE).exists() or bool(epoch_checkpoints(folder / CHECKPOINTS))
    if is_first_process() and started:
        raise FileExistsError(
            f"run: expected a folder without a run, got {folder}; continue it "
            f"({config.command} --resume {folder}), give another folder (--run), or remove it"
        )
    return run(create_task(config), None)


def resume(folder: str | Path, *, accept_images: bool = False) -> dict[str, Any]:
    """Continue a run of a classifier or detector from its newest readable checkpoint.

    On one process, the result is bit for bit that of a run that was never interrupted.

    Args:
        folder: The run folder.
        accept_images: Log images that were added, removed or renamed since the checkpoint as information
            instead of a warning.

    Returns:
        The content of results.json, as from train.

    Raises:
        BlockingIOError: Another process writes to the folder.
        FileExistsError: The run is finished.
        FileNotFoundError: There is no run in the folder.
        ValueError: There are checkpoints, but none can be read; or network, optimizer or classes are not
            those of the checkpoint.
    """
    folder = Path(folder)
    file = folder / CONFIG_FILE
    if not file.is_file():
        raise FileNotFoundError(f"--resume: expected a run folder, got {folder} without {CONFIG_FILE}")
    if (folder / RESULTS_FILE).exists():
        raise FileExistsError(
            f"--resume: expected an interrupted run, got {folder}, which is finished; see its {RESULTS_FILE}"
        )
    config = dataclasses.replace(load_config(file, config_kind(file)), run=str(folder))
    checkpoint = newest_readable(folder / CHECKPOINTS)
    if is_first_process():
        start = "the beginning, as it has no checkpoint yet" if checkpoint is None else checkpoint.stem
        _logger.info("resuming %s from %s", folder, start)
    return run(create_task(config), checkpoint, accept_images=accept_images)


def create_task(config: TrainConfig | DetectionConfig) -> Task:
    """The task of a configuration."""
    if isinstance(config, DetectionConfig):
        from sasa.train.detection.task import DetectionTask

        return DetectionTask(config)
    from sasa.train.classification.task import ClassificationTask

    return ClassificationTask(config)


@determinism_restored()
def run(task: Task, checkpoint: Path | None, *, accept_images: bool = False) -> dict[str, Any]:
    """Train to the end, evaluate on the test images, and write the run folder.

    Args:
        task: What to train.
        checkpoint: Where to continue; None starts from the beginning.
        accept_images: See resume.

    Returns:
        The content of results.json.
    """
    started = time.perf_counter()
    config = task.config
    task.open_data()
    identity = RunIdentity(config, task.data)
    if checkpoint is not None:
        identity.check(checkpoint, accept_images=accept_images)
    seed_everything(config.seed, verbose=False)
    task.build_network(initial=checkpoint is None)
    if config.runtime.compile:
        task.compile_network()
    module = TrainingModule(
        task.network,
        task.loss,
        task.metrics(task.data.validation),
        config.optimizer,
        task.data.steps_per_epoch,
        channels_last=config.runtime.channels_last,
    )
    trainer = _make_trainer(task, identity)
    with run_lock(config.folder) if trainer.is_global_zero else nullcontext():
        return _train_and_evaluate(trainer, module, task, checkpoint, started)


def _train_and_evaluate(
    trainer: Trainer, module: TrainingModule, task: Task, checkpoint: Path | None, started: float
) -> dict[str, Any]:
    """Train, evaluate, and write weights and results; started is a time of perf_counter."""
    config = task.config
    training = _fit(trainer, module, task, checkpoint)
    network = task.metadata.create_model()
    network.load_state_dict(training.state)
    metrics = task.metrics(task.data.test)
    score = next(iter(task.scores))
    results = {
        **evaluate_loader(trainer, network, metrics, task.data, channels_last=config.runtime.channels_last),
        score: training.rows[-1][score],
        **task.describe(),
        "epochs": config.optimizer.epochs,
        "steps": training.steps,
        "training_seconds": round(sum(row["seconds"] for row in training.rows), 3),
        "process_seconds": round(time.perf_counter() - started, 3),
        "peak_memory_bytes": _peak_memory(trainer.strategy.root_device),
        "processes": trainer.world_size,
        **environment(trainer),
    }
    if trainer.is_global_zero:
        save_weights(config.folder / WEIGHTS_FILE, network, task.scored_metadata(results))
        task.write_descriptions(network)
        write_json(results, config.folder / RESULTS_FILE)
    return results


def _make_trainer(task: Task, identity: RunIdentity) -> Trainer:
    """The Trainer of a run, with metrics table, checkpoints, progress bar and TensorBoard.

    Raises:
        ValueError: The batch cannot be divided among the processes, or the machine does not support the
            precision.
    """
    config, optimizer = task.config, task.config.optimizer
    batches = task.data.steps_per_epoch * optimizer.grad_accum_steps
    interactive = sys.stdout.isatty()
    table = MetricsTable(
        config.folder / METRICS_FILE, task.scores, optimizer.batch_size, echo=not interactive
    )
    checkpoints = EpochCheckpoints(config.folder / CHECKPOINTS, next(iter(task.scores)))
    trainer = make_trainer(
        config.runtime,
        callbacks=[identity, table, checkpoints, *([ProgressBar()] if interactive else [])],
        enable_progress_bar=interactive,
        logger=TensorBoardLogger(config.folder, name="", version="tensorboard"),
        plugins=[AtomicCheckpointIO()],
        default_root_dir=config.folder,
        max_epochs=optimizer.epochs,
        limit_train_batches=batches,
        accumulate_grad_batches=optimizer.grad_accum_steps,
        gradient_clip_val=optimizer.clip_grad,
        log_every_n_steps=min(50, batches),
        num_sanity_val_steps=0,
    )
    config.check_processes(trainer.world_size)
    return trainer


class _Training(NamedTuple):
    """The outcome of a training.

    Attributes:
        state: Parameters and buffers of the network to evaluate.
        rows: Rows of the metrics table.
        steps: Number of optimizer steps.
    """

    state: dict[str, Tensor]
    rows: list[dict[str, float]]
    steps: int


def _fit(trainer: Trainer, module: TrainingModule, task: Task, checkpoint: Path | None) -> _Training:
    """Write the configuration, and train from a checkpoint, or from the beginning, to the end."""
    folder = task.config.folder
    if trainer.is_global_zero:
        (folder / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
        if checkpoint is None:
            save_config(task.config, folder / CONFIG_FILE)
    with lightning_loop(trainer):
        trainer.fit(module, task.data, ckpt_path=checkpoint, weights_only=True)

    # The weights are taken from the checkpoint, which is complete under every strategy.
    newest = newest_readable(folder / CHECKPOINTS)
    assert newest is not None, "every epoch ends with a checkpoint"
    final = read_checkpoint(newest)
    prefix = "network." if module.ema is None else "ema.module."
    state = {
        name.removeprefix(prefix): value
        for name, value in final["state_dict"].items()
        if name.startswith(prefix)
    }
    return _Training(state, final["callbacks"]["MetricsTable"]["rows"], final["global_step"])


def _peak_memory(device: torch.device) -> int:
    """Peak memory of this process in bytes: that of torch on a GPU, all resident memory on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
