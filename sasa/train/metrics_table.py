"""metrics.csv, with one row per epoch."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from sasa.train.atomic import replacing


def rounded(value: float) -> float:
    """A number rounded to the seven digits of fp32."""
    return float(f"{value:.7g}")


def defined(metrics: dict[str, float]) -> dict[str, float | None]:
    """Metrics with None, which JSON has, in place of NaN and infinities, which it does not have."""
    return {name: value if math.isfinite(value) else None for name, value in metrics.items()}


_METRICS = ("lr", "train_loss", "val_loss")


class MetricsTable(Callback):
    """Writes metrics.csv after every epoch.

    The rows are part of the checkpoints, and the file is rewritten from them. After resuming, it therefore
    has exactly the epochs before the checkpoint. Columns: epoch (from 1), step (optimizer steps so far), lr
    (of the last step of the epoch), train_loss, val_loss, the scores (in [0, 1]), seconds (of training
    without validation), images_per_second.
    """

    def __init__(self, path: Path, scores: Mapping[str, str | None], batch_size: int, echo: bool) -> None:
        """Set the callback up.

        Args:
            path: The file.
            scores: Further metrics to write if they are logged, each with the name under which it is printed,
                or None if it is not printed.
            batch_size: Images per step.
            echo: Print a line per epoch.
        """
        self._path = path
        self._scores = scores
        self._batch_size = batch_size
        self._echo = echo
        self._rows: list[dict[str, float]] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the rows of the checkpoint."""
        if trainer.is_global_zero:
            self._write()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._start = self._stop = time.perf_counter()
        self._first_step = trainer.global_step

    def on_train_batch_end(self, *args: Any) -> None:
        """Stop the clock; validation follows the last batch."""
        self._stop = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add and write the row of the epoch."""
        seconds = self._stop - self._start
        images = (trainer.global_step - self._first_step) * self._batch_size
        metrics = trainer.callback_metrics  # in every process, since reading averages over the processes
        row = {
            "epoch": trainer.current_epoch + 1,
            "step": trainer.global_step,
            **{name: rounded(float(metrics[name])) for name in (*_METRICS, *self._scores) if name in metrics},
            "seconds": round(seconds, 3),
            "images_per_second": round(images / seconds, 1),
        }
        self._rows.append(row)
        if trainer.is_global_zero:
            self._write()
            if self._echo:
                scores = [f"{shown} {row[name]:.2%}" for name, shown in self._scores.items() if shown]
                print(
                    f"epoch {row['epoch']}/{trainer.max_epochs}: loss {row['train_loss']:.4f}, "
                    f"validation loss {row['val_loss']:.4f}, {', '.join(scores)}, "
                    f"{row['images_per_second']:.0f} images/s",
                    flush=True,
                )

    def _write(self) -> None:
        if not self._rows:
            return
        with replacing(self._path) as temporary, temporary.open("w", newline="") as file:
            table = csv.DictWriter(file, self._rows[0].keys())
            table.writeheader()
            table.writerows(self._rows)

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self._rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._rows = list(state_dict["rows"])
