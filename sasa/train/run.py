"""A training run from its configuration to its results, and an evaluation of what came out."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import resource
import signal
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import lightning
import timm
import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

import sasa
from sasa.data import ImageDataset, evaluation_transform, is_stream, open_dataset
from sasa.train.atomic import replacing
from sasa.train.checkpoints import AtomicCheckpointIO, EpochCheckpoints, newest_readable, read_checkpoint
from sasa.train.classifier import Classifier, Evaluator
from sasa.train.config import RuntimeConfig, TrainConfig
from sasa.train.config_files import load_config, save_config
from sasa.train.costs import costs
from sasa.train.loaders import ImageData, evaluation_loader
from sasa.train.metrics_table import MetricsTable, rounded
from sasa.train.weights import WEIGHTS_FILE, WeightsMetadata, load_weights, save_weights, start_from

_logger = logging.getLogger(__name__)

_CONFIG, _RESULTS, _CHECKPOINTS = "config.yaml", "results.json", "checkpoints"


def train(config: TrainConfig) -> dict[str, Any]:
    """Train a classifier, evaluate it on the test images and write the run folder.

    The folder, config.folder, then holds config.yaml, metrics.csv (a row an epoch), tensorboard/,
    checkpoints/, model.safetensors (the evaluated weights: the moving average where it is on) and
    results.json.

    Under torchrun every process calls this with the same configuration.

    Returns:
        What results.json holds: top1, top5 (from six classes on), loss and images of the test data,
        validation's last top1, costs (see sasa.train.costs), epochs, steps, seconds, the peak memory of the
        process, versions, and the model, data and machine.

    Raises:
        FileExistsError: the folder holds a run already.
        FloatingPointError: the loss is not finite.
        FileNotFoundError, ValueError: the data, the model or the configuration are at fault.
    """
    folder = config.folder
    if _first_process() and (folder / _CONFIG).exists():
        raise FileExistsError(
            f"run_folder: {folder} holds a run already; go on with it (sasa train --resume {folder}), name "
            "another folder (--run_folder), or remove it"
        )
    return _run(config, None)


def resume(folder: str | Path) -> dict[str, Any]:
    """Go on with a run that stopped, from its newest readable checkpoint and with its own config.yaml.

    On one process the result is bit for bit that of a run that was never stopped.

    Returns:
        As train does.

    Raises:
        FileNotFoundError: there is no run in the folder.
        FileExistsError: the run is finished.
        ValueError: none of its checkpoints can be read.
    """
    folder = Path(folder)
    if not (folder / _CONFIG).is_file():
        raise FileNotFoundError(f"--resume: no run in {folder} (it has no {_CONFIG})")
    if (folder / _RESULTS).exists():
        raise FileExistsError(f"--resume: the run in {folder} is finished; see its {_RESULTS}")
    config = dataclasses.replace(load_config(folder / _CONFIG), run_folder=str(folder))
    checkpoint = newest_readable(folder / _CHECKPOINTS)
    if _first_process():
        start = "the beginning: it has no checkpoint yet" if checkpoint is None else checkpoint.stem
        _logger.info("resuming %s from %s", folder, start)
    return _run(config, checkpoint)


def _run(config: TrainConfig, checkpoint: Path | None) -> dict[str, Any]:
    with _determinism_restored():
        return _fit_and_test(config, checkpoint)


def _fit_and_test(config: TrainConfig, checkpoint: Path | None) -> dict[str, Any]:
    folder = config.folder
    started = time.perf_counter()
    data = ImageData(config)
    seed_everything(config.seed, verbose=False)
    metadata = WeightsMetadata(
        model=config.model.name,
        options=config.model.options,
        classes=data.classes,
        input_size=list(data.input_size),
        mean=list(data.mean),
        std=list(data.std),
        crop_pct=config.data.crop_pct,
        interpolation=config.data.interpolation,
    )
    network = metadata.create_model()
    price = costs(network, metadata)
    if config.model.weights is not None:
        start_from(config.model.weights, network, data.classes)
    classifier = Classifier(
        network, config, num_classes=len(data.classes), steps_per_epoch=data.steps_per_epoch
    )
    trainer = _training(config, data.steps_per_epoch)
    parts = trainer.world_size * config.optimizer.accumulation
    if config.optimizer.batch_size % parts:
        raise ValueError(
            "optimizer.batch_size must be divisible by processes x optimizer.accumulation = "
            f"{trainer.world_size} x {config.optimizer.accumulation}, got {config.optimizer.batch_size}"
        )
    if (config.augmentation.mixup or config.augmentation.cutmix) and config.optimizer.batch_size // parts % 2:
        raise ValueError(
            "optimizer.batch_size must give every process an even number of images at a time for mixup and "
            f"cutmix, got {config.optimizer.batch_size} / {parts}"
        )
    if trainer.is_global_zero:
        (folder / _CHECKPOINTS).mkdir(parents=True, exist_ok=True)
        if not (folder / _CONFIG).exists():
            save_config(config, folder / _CONFIG)
    with _quiet(trainer):
        trainer.fit(classifier, data, ckpt_path=checkpoint, weights_only=True)

    # The weights are taken from the checkpoint, which is whole under every strategy.
    newest = newest_readable(folder / _CHECKPOINTS)
    assert newest is not None, "every epoch ends with a checkpoint"
    final = read_checkpoint(newest)
    prefix = "network." if classifier.ema is None else "ema.module."
    network = metadata.create_model()
    state = final["state_dict"]
    network.load_state_dict(
        {name.removeprefix(prefix): state[name] for name in state if name.startswith(prefix)}
    )
    evaluator = Evaluator(network, len(data.classes), channels_last=config.runtime.channels_last)
    with _quiet(trainer):
        (test,) = trainer.test(evaluator, data, verbose=False)
    results = {
        **_scores(test, "test"),
        "validation_top1": final["callbacks"]["MetricsTable"]["rows"][-1]["val_top1"],
        "model": config.model.name,
        "options": config.model.options,
        "data": config.data.source,
        "classes": len(data.classes),
        "training_images": len(data.training),
        "skipped_images": sum(
            part.skipped for part in (data.training, data.test) if isinstance(part, ImageDataset)
        ),
        **price,
        "epochs": config.optimizer.epochs,
        "steps": final["global_step"],
        "training_seconds": round(
            sum(row["seconds"] for row in final["callbacks"]["MetricsTable"]["rows"]), 3
        ),
        "process_seconds": round(time.perf_counter() - started, 3),
        "peak_memory_bytes": _peak_memory(trainer.strategy.root_device),
        "processes": trainer.world_size,
        **_environment(trainer),
    }
    if trainer.is_global_zero:
        save_weights(folder / WEIGHTS_FILE, network, dataclasses.replace(metadata, accuracy=results["top1"]))
        _write_json(results, folder / _RESULTS)
    return results


def _first_process() -> bool:
    return getattr(rank_zero_only, "rank") == 0  # noqa: B009


def _training(config: TrainConfig, steps_per_epoch: int) -> Trainer:
    folder, recipe = config.folder, config.optimizer
    interactive = sys.stdout.isatty()
    table = MetricsTable(folder / "metrics.csv", recipe.batch_size, echo=not interactive)
    return _trainer(
        config.runtime,
        callbacks=[table, EpochCheckpoints(folder / _CHECKPOINTS), *([_Bar()] if interactive else [])],
        enable_progress_bar=interactive,
        logger=TensorBoardLogger(folder, name="", version="tensorboard"),
        plugins=[AtomicCheckpointIO()],
        default_root_dir=folder,
        max_epochs=recipe.epochs,
        limit_train_batches=steps_per_epoch * recipe.accumulation,
        accumulate_grad_batches=recipe.accumulation,
        gradient_clip_val=recipe.gradient_clip,
        log_every_n_steps=min(50, steps_per_epoch * recipe.accumulation),
        num_sanity_val_steps=0,
    )


def _trainer(runtime: RuntimeConfig, **options: Any) -> Trainer:
    """A Trainer for a machine; the numbers of processes are torchrun's own where it started us."""
    devices, nodes = runtime.devices, runtime.num_nodes
    if devices == "auto":
        devices = 1
        if torch.distributed.is_torchelastic_launched():
            devices = int(os.environ["LOCAL_WORLD_SIZE"])
            nodes = int(os.environ["WORLD_SIZE"]) // devices
    with warnings.catch_warnings():
        # It would compute in bf16 instead, which is refused below.
        warnings.filterwarnings("ignore", message=".*AMP with fp16 is not supported on CPU")
        trainer = Trainer(
            accelerator=runtime.accelerator,
            devices=devices,
            num_nodes=nodes,
            strategy=runtime.strategy,
            precision=runtime.precision,
            deterministic="warn" if runtime.deterministic else None,
            use_distributed_sampler=False,
            enable_model_summary=False,
            **options,
        )
    if trainer.precision != runtime.precision:
        raise ValueError(
            f"runtime.precision must be 32-true or bf16-mixed on this machine, got {runtime.precision!r}"
        )
    return trainer


class _Bar(TQDMProgressBar):
    """Lightning's bar, one line kept for each epoch, counted from 1, without the log's version number."""

    def __init__(self) -> None:
        super().__init__(leave=True)

    def on_train_epoch_start(self, trainer: Trainer, *args: Any) -> None:
        super().on_train_epoch_start(trainer, *args)
        self.train_progress_bar.set_description(f"Epoch {trainer.current_epoch + 1}/{trainer.max_epochs}")

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        return metrics


@contextmanager
def _determinism_restored() -> Iterator[None]:
    """Undo what Lightning's Trainer(deterministic=…) switches on for the whole process."""
    enabled = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)


@contextmanager
def _quiet(trainer: Trainer) -> Iterator[None]:
    """Without advice that does not apply; Ctrl-C stays KeyboardInterrupt, where Lightning would exit."""
    with warnings.catch_warnings():
        # The user chose the workers.
        warnings.filterwarnings("ignore", message=".*does not have many workers")
        # timm's readers of streams divide the samples among the workers.
        warnings.filterwarnings("ignore", message=".*`IterableDataset` has `__len__` defined")
        # Lightning 2.6 asks torch in a way that torch 2.15 advises against.
        warnings.filterwarnings("ignore", message=".*isinstance\\(treespec, LeafSpec\\)")
        try:
            yield
        except SystemExit:
            if not trainer.interrupted:
                raise
            signal.signal(signal.SIGINT, signal.default_int_handler)
            raise KeyboardInterrupt from None


def _scores(test: Any, stage: str) -> dict[str, Any]:
    """Lightning's metrics without the stage's name, images as a whole number."""
    scores = {name.removeprefix(f"{stage}_"): value for name, value in test.items()}
    order = [name for name in ("top1", "top5", "loss") if name in scores]
    return {**{name: rounded(scores[name]) for name in order}, "images": int(scores["images"])}


def _peak_memory(device: torch.device) -> int:
    """Most memory that this process held so far: torch's of a GPU; on a CPU all that was resident."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _environment(trainer: Trainer) -> dict[str, Any]:
    device = trainer.strategy.root_device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {
        "device": name,
        "threads": torch.get_num_threads(),
        "precision": trainer.precision,
        "versions": {
            "sasa": sasa.__version__,
            "torch": torch.__version__,
            "timm": timm.__version__,
            "lightning": lightning.__version__,
        },
    }


def _write_json(content: dict[str, Any], path: Path) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")


def evaluate(
    weights: str | Path,
    source: str | Path = "fashion-mnist",
    split: str = "test",
    *,
    batch_size: int = 128,
    workers: int = 0,
    on_broken: Literal["raise", "skip"] = "raise",
    runtime: RuntimeConfig | None = None,
    **reader_options: Any,
) -> dict[str, Any]:
    """Evaluate trained weights.

    Args:
        weights: safetensors file of a run, or the run folder.
        source: images, see sasa.data.open_dataset; their classes must be those of the weights.
        split: which of their splits.
        batch_size: images at a time, in each process.
        workers: processes that load images; 0 loads in this one.
        on_broken: "raise" stops at a broken image, "skip" leaves it out.
        runtime: the machine; None means its defaults.
        reader_options: for timm's readers only.

    Returns:
        top1, top5 (from six classes on) in [0, 1], loss, images, skipped_images, weights, data and split.

    Raises:
        FileNotFoundError, ValueError: the weights or the data are at fault.
    """
    runtime = RuntimeConfig() if runtime is None else runtime
    if batch_size < 1:
        raise ValueError(f"batch_size must be positive, got {batch_size}")
    network, metadata = load_weights(weights)
    transform = evaluation_transform(
        (metadata.input_size[0], metadata.input_size[1], metadata.input_size[2]),
        mean=metadata.mean,
        std=metadata.std,
        crop_pct=metadata.crop_pct,
        interpolation=metadata.interpolation,
    )
    if is_stream(source):
        reader_options = {"is_training": False, "batch_size": 1, **reader_options}
    dataset = open_dataset(
        source,
        split,
        in_chans=metadata.input_size[0],
        transform=transform,
        on_broken=on_broken,
        **reader_options,
    )
    if list(dataset.classes) != metadata.classes:
        raise ValueError(
            f"{source}: its {len(dataset.classes)} classes ({_few(dataset.classes)}) are not the "
            f"{len(metadata.classes)} of {weights} ({_few(metadata.classes)})"
        )
    with _determinism_restored():
        trainer = _trainer(
            runtime,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=sys.stdout.isatty(),
        )
        loader = evaluation_loader(dataset, trainer, batch_size=batch_size, workers=workers)
        if runtime.compile:
            network.compile()
        evaluator = Evaluator(network, len(metadata.classes), channels_last=runtime.channels_last)
        with _quiet(trainer):
            (test,) = trainer.test(evaluator, loader, verbose=False)
        return {
            **_scores(test, "test"),
            "skipped_images": dataset.skipped if isinstance(dataset, ImageDataset) else 0,
            "weights": str(weights),
            "data": str(source),
            "split": split,
        }


def _few(names: list[str]) -> str:
    return ", ".join(names[:4]) + (", …" if len(names) > 4 else "")
