"""LightningModules that train and evaluate the network of any task."""

from __future__ import annotations

import math
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from timm.optim import create_optimizer_v2
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import MeanMetric

from sasa.train.config import OptimizerConfig, RuntimeConfig
from sasa.train.loaders import Collate, evaluation_loader
from sasa.train.schedule import warmup_cosine
from sasa.train.task import Loss, Metrics
from sasa.train.trainer import determinism_restored, evaluation_trainer, lightning_loop


class EvaluationModule(LightningModule):
    """A network in evaluation; logs test_METRIC.

    Attributes:
        network: The network.
        metrics: Its metrics on the test images.
    """

    def __init__(self, network: nn.Module, metrics: Metrics, *, channels_last: bool = False) -> None:
        """Wrap the network; channels_last changes the memory format of its weights, in place."""
        super().__init__()
        self.network = network.to(memory_format=_memory_format(channels_last))
        self.metrics = metrics

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.metrics.update(self.network, batch)

    def on_test_epoch_end(self) -> None:
        _log_metrics(self, "test", self.metrics)


class TrainingModule(LightningModule):
    """A network in training; logs train_loss, loss, lr and val_METRIC.

    The optimizer is SGD, AdamW or Muon with warm-up and cosine decay. Validation uses the moving average of
    the weights, unless it is off.

    Attributes:
        network: The network to train.
        ema: The moving average of its weights; None if it is off.
        metrics: Metrics on the validation images.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: Loss,
        metrics: Metrics,
        optimizer: OptimizerConfig,
        steps_per_epoch: int,
        *,
        channels_last: bool = False,
    ) -> None:
        """Prepare the network for training, in place.

        Args:
            network: The network to train.
            loss: Returns the mean loss of a network on a batch, and the number of images.
            metrics: Metrics on the validation images.
            optimizer: The optimizer and its schedule.
            steps_per_epoch: Optimizer steps per epoch.
            channels_last: Use the channels-last memory format for the weights.
        """
        super().__init__()
        self.network = network.to(memory_format=_memory_format(channels_last))
        self.metrics = metrics
        self.train_loss = mean_loss()
        self._loss, self._optimizer, self._steps_per_epoch = loss, optimizer, steps_per_epoch
        for module in network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.momentum = optimizer.bn_momentum
        self.ema: ModelEmaV3 | None = None
        if optimizer.ema_decay > 0:
            # timm's warm-up with these two is min(decay, t / (t + 9)) in step t = 0, 1, …
            self.ema = ModelEmaV3(
                network, optimizer.ema_decay, use_warmup=optimizer.ema_warmup, warmup_gamma=9, warmup_power=1
            )
            # Training mode throughout, or Lightning warns; evaluation switches all modules itself.
            self.ema.requires_grad_(False).train()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """The loss of a batch.

        Raises:
            FloatingPointError: The loss is not finite; the message names step and epoch.
        """
        loss, size = self._loss(self.network, batch)
        if not torch.isfinite(loss):
            known = ""
            if self.trainer.precision == "bf16-mixed" and loss.device.type == "cpu":
                known = (
                    ". In bf16 on a CPU, torch's gradient of a convolution on a map smaller than its stride "
                    "may be NaN; larger images (data.input_size, or data.size in detection) avoid that"
                )
            raise FloatingPointError(
                f"the loss is {loss.item()} in step {self.trainer.global_step + 1} (epoch "
                f"{self.trainer.current_epoch + 1}): training stops; lower optimizer.lr, set "
                f"optimizer.clip_grad, or use precision 32-true{known}"
            )
        self.train_loss.update(loss.detach(), weight=size)
        self.log("train_loss", self.train_loss, on_step=False, on_epoch=True, batch_size=size)
        self.log("loss", loss.detach(), prog_bar=True, batch_size=size)
        self.log("lr", self.trainer.optimizers[0].param_groups[0]["lr"], batch_size=size)
        return loss

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        if self.ema is not None:
            self.ema.update(self.network, step=self.trainer.global_step + 1)

    def on_validation_epoch_start(self) -> None:
        self.metrics.reset()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Evaluate a batch with the moving average, if there is one."""
        self.metrics.update(self.network if self.ema is None else self.ema.module, batch)

    def on_validation_epoch_end(self) -> None:
        _log_metrics(self, "val", self.metrics)

    def configure_optimizers(self) -> Any:
        """The optimizer and its schedule, without weight decay of biases, norms and position embeddings."""
        config = self._optimizer
        optimizer = create_optimizer_v2(
            self.network,
            config.name,
            lr=config.peak_lr,
            weight_decay=config.weight_decay,
            momentum=config.momentum,
            fallback_no_weight_decay=True,  # Muon is for matrices, and position embeddings are not
        )
        total = config.epochs * self._steps_per_epoch
        warmup = min(round(config.warmup_epochs * self._steps_per_epoch), total - 1)
        schedule = LambdaLR(optimizer, lambda step: warmup_cosine(step, total, warmup))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def mean_loss() -> MeanMetric:
    """The mean over the images, NaN if one of its values is NaN; by default torchmetrics leaves these out.

    NaN is replaced by NaN, since nan_strategy="disable" of torchmetrics 1.9 drops the weights.
    """
    return MeanMetric(nan_strategy=math.nan)


def evaluate_dataset(
    network: nn.Module,
    metrics: Metrics,
    dataset: Any,
    runtime: RuntimeConfig,
    *,
    batch_size: int,
    num_workers: int,
    collate: Collate | None = None,
) -> dict[str, Any]:
    """Evaluate a network on a dataset, and return the summary of the metrics.

    Args:
        network: The network.
        metrics: Its metrics, without batches.
        dataset: An ImageDataset, ImageStream or DetectionDataset.
        runtime: Precision and devices.
        batch_size: Images per batch, in each process.
        num_workers: Loader processes.
        collate: Makes a batch of samples. None means torch's default.
    """
    with determinism_restored():
        trainer = evaluation_trainer(runtime)
        loader = evaluation_loader(
            dataset, trainer, batch_size=batch_size, num_workers=num_workers, collate=collate
        )
        return evaluate_loader(trainer, network, metrics, loader, channels_last=runtime.channels_last)


def evaluate_loader(
    trainer: Trainer, network: nn.Module, metrics: Metrics, data: Any, *, channels_last: bool
) -> dict[str, Any]:
    """Evaluate a network on a loader or the test images of a data module; see evaluate_dataset."""
    with lightning_loop(trainer):
        trainer.test(EvaluationModule(network, metrics, channels_last=channels_last), data, verbose=False)
    return metrics.summary()


def _memory_format(channels_last: bool) -> torch.memory_format:
    return torch.channels_last if channels_last else torch.contiguous_format


def _log_metrics(module: LightningModule, stage: str, metrics: Metrics) -> None:
    for name, value in metrics.compute().items():
        # All processes have the same value; Lightning warns unless it is averaged over them.
        module.log(f"{stage}_{name}", value, prog_bar=name in metrics.progress, sync_dist=True)
