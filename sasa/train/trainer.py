"""Lightning's Trainer for training and evaluation."""

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
from lightning.pytorch.utilities.exceptions import SIGTERMException

import sasa
from sasa.errors import require
from sasa.train.config import RuntimeConfig


def make_trainer(runtime: RuntimeConfig, **options: Any) -> Trainer:
    """A Trainer for the given precision and devices; under torchrun, the number of processes is torchrun's.

    Args:
        runtime: Precision, devices and processes.
        options: Further options for Trainer.

    Raises:
        ValueError: The machine does not support the precision.
    """
    devices, nodes = runtime.devices, runtime.num_nodes
    if devices == "auto":
        devices = 1
        if torch.distributed.is_torchelastic_launched():
            devices = int(os.environ["LOCAL_WORLD_SIZE"])
            nodes = int(os.environ["WORLD_SIZE"]) // devices
    with warnings.catch_warnings():
        # Lightning would compute in bf16 instead, which is rejected below.
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
    supported = trainer.precision == runtime.precision
    require(supported, "runtime.precision", "32-true or bf16-mixed on this machine", runtime.precision)
    return trainer


def evaluation_trainer(runtime: RuntimeConfig) -> Trainer:
    """A Trainer for an evaluation alone: it writes no files, and has a progress bar on a terminal."""
    return make_trainer(
        runtime, logger=False, enable_checkpointing=False, enable_progress_bar=sys.stdout.isatty()
    )


class ProgressBar(TQDMProgressBar):
    """Lightning's progress bar with one line per epoch, counted from 1, without the log's version number."""

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
    """Restore torch's setting of determinism, which Lightning's Trainer changes for the whole process."""
    enabled = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)


@contextmanager
def lightning_loop(trainer: Trainer) -> Iterator[None]:
    """Context of Trainer.fit and Trainer.test: hides advice that does not apply, and keeps KeyboardInterrupt.

    Lightning would exit at Ctrl-C, and with exit code 0 at SIGTERM.

    Raises:
        ChildProcessError: A loader process died.
    """
    with warnings.catch_warnings():
        # The number of workers is the user's choice.
        warnings.filterwarnings("ignore", message=".*does not have many workers")
        # timm's readers of streams divide the samples among the workers.
        warnings.filterwarnings("ignore", message=".*`IterableDataset` has `__len__` defined")
        # torch.compile reads the gradient of every tensor.
        warnings.filterwarnings("ignore", message=".*\\.grad attribute of a Tensor that is not a leaf")
        # Batch norms may be frozen on purpose.
        warnings.filterwarnings("ignore", message="Found .* module\\(s\\) in eval mode at the start")
        # Lightning 2.6 uses a check that torch 2.15 deprecates.
        warnings.filterwarnings("ignore", message=".*isinstance\\(treespec, LeafSpec\\)")
        try:
            yield
        except SIGTERMException:
            raise SystemExit(128 + signal.SIGTERM) from None
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):  # torch has no type for it
                raise
            raise ChildProcessError(
                "data.num_workers: expected loader processes that live as long as the run, got: "
                f"{str(error).rstrip('.')}; most often the memory was full: use fewer, and --resume the run"
            ) from error
        except SystemExit:
            if not trainer.interrupted:
                raise
            signal.signal(signal.SIGINT, signal.default_int_handler)
            raise KeyboardInterrupt from None


def environment(trainer: Trainer) -> dict[str, Any]:
    """Device, threads, precision and versions, for results.json."""
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
