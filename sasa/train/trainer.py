"""Lightning's Trainer as every run of ours wants it."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning
import timm
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar

import sasa
from sasa.train.config import RuntimeConfig


def make_trainer(runtime: RuntimeConfig, **options: Any) -> Trainer:
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


def evaluation_trainer(runtime: RuntimeConfig) -> Trainer:
    """A Trainer for an evaluation by itself: it writes no file, and has a progress bar on a terminal."""
    return make_trainer(
        runtime, logger=False, enable_checkpointing=False, enable_progress_bar=sys.stdout.isatty()
    )


class Bar(TQDMProgressBar):
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
def determinism_restored() -> Iterator[None]:
    """Undo what Lightning's Trainer(deterministic=…) switches on for the whole process."""
    enabled = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)


@contextmanager
def quiet(trainer: Trainer) -> Iterator[None]:
    """Without advice that does not apply; Ctrl-C stays KeyboardInterrupt, where Lightning would exit."""
    with warnings.catch_warnings():
        # The user chose the workers.
        warnings.filterwarnings("ignore", message=".*does not have many workers")
        # timm's readers of streams divide the samples among the workers.
        warnings.filterwarnings("ignore", message=".*`IterableDataset` has `__len__` defined")
        # torch.compile looks at the gradient of every tensor.
        warnings.filterwarnings("ignore", message=".*\\.grad attribute of a Tensor that is not a leaf")
        # Frozen batch norms are meant.
        warnings.filterwarnings("ignore", message="Found .* module\\(s\\) in eval mode at the start")
        # Lightning 2.6 asks torch in a way that torch 2.15 advises against.
        warnings.filterwarnings("ignore", message=".*isinstance\\(treespec, LeafSpec\\)")
        try:
            yield
        except SystemExit:
            if not trainer.interrupted:
                raise
            signal.signal(signal.SIGINT, signal.default_int_handler)
            raise KeyboardInterrupt from None


def environment(trainer: Trainer) -> dict[str, Any]:
    """What a run's figures depend on beside its configuration: device, threads, precision, versions."""
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
