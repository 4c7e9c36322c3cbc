"""What one step of training and of evaluation does."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from timm.data.mixup import Mixup
from timm.optim import create_optimizer_v2
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import MeanMetric, Metric, SumMetric
from torchmetrics.classification import MulticlassAccuracy

from sasa.train.config import TrainConfig
from sasa.train.schedule import warmup_cosine

Batch = tuple[Tensor, Tensor]


class Evaluator(LightningModule):
    """Loss and accuracy of a classifier; logs {test,val}_{loss,top1,top5,images}, top5 from six classes on.

    Attributes:
        network: images (B, C, H, W) → logits (B, classes).
    """

    def __init__(self, network: nn.Module, num_classes: int, *, channels_last: bool = False) -> None:
        """Wrap the network; channels_last also changes the layout of its weights, in place."""
        super().__init__()
        self._layout = torch.channels_last if channels_last else torch.contiguous_format
        self.network = network.to(memory_format=self._layout)
        self.num_classes = num_classes
        self.metrics = nn.ModuleDict({stage: _metrics(num_classes) for stage in ("val", "test")})

    @property
    def evaluated(self) -> nn.Module:
        """The network whose predictions count."""
        return self.network

    def forward(self, images: Tensor) -> Tensor:
        """Logits in 32 bits, of the network whose predictions count."""
        return self._logits(self.evaluated, images)

    def _logits(self, network: nn.Module, images: Tensor) -> Tensor:
        logits: Tensor = network(images.contiguous(memory_format=self._layout))
        return logits.float()

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Count a batch of test images."""
        self._count(batch, "test")

    def _count(self, batch: Batch, stage: str) -> None:
        images, labels = batch
        logits = self(images)
        metrics = self.metrics[stage]
        assert isinstance(metrics, nn.ModuleDict)
        for name, metric in metrics.items():
            assert isinstance(metric, Metric)
            if name == "loss":
                metric.update(F.cross_entropy(logits, labels), weight=len(labels))
            elif name == "images":
                metric.update(len(labels))
            else:
                metric.update(logits, labels)
            self.log(f"{stage}_{name}", metric, prog_bar=name in ("loss", "top1"), batch_size=len(labels))


def _metrics(num_classes: int) -> nn.ModuleDict:
    metrics: dict[str, Metric] = {
        "loss": MeanMetric(),
        "top1": MulticlassAccuracy(num_classes, average="micro", validate_args=False),
        "images": SumMetric(),
    }
    if num_classes > 5:
        metrics["top5"] = MulticlassAccuracy(num_classes, top_k=5, average="micro", validate_args=False)
    return nn.ModuleDict(metrics)


class Classifier(Evaluator):
    """Nesterov SGD with warm-up and cosine decay, batch-norm decay and a moving average of the weights.

    Attributes:
        ema: the moving average, evaluated in the network's place; None if it is off.
    """

    def __init__(
        self, network: nn.Module, config: TrainConfig, *, num_classes: int, steps_per_epoch: int
    ) -> None:
        """Set the network up for training, in place.

        Args:
            network: images → logits, of timm's kind.
            config: the recipe.
            num_classes: number of logits.
            steps_per_epoch: optimiser steps of an epoch.
        """
        super().__init__(network, num_classes, channels_last=config.runtime.channels_last)
        recipe, augmentation = config.optimizer, config.augmentation
        self._recipe = recipe
        self._steps_per_epoch = steps_per_epoch
        self._smoothing = augmentation.label_smoothing
        self._mix: Mixup | None = None
        if augmentation.mixup > 0 or augmentation.cutmix > 0:
            self._mix = Mixup(
                augmentation.mixup,
                augmentation.cutmix,
                label_smoothing=augmentation.label_smoothing,
                num_classes=num_classes,
            )
            self._smoothing = 0.0
        for module in network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.momentum = 1 - recipe.batch_norm_decay
        if config.runtime.compile:
            network.compile()
        self.train_loss = MeanMetric()
        self.ema: ModelEmaV3 | None = None
        if recipe.ema_decay > 0:
            # timm's warm-up with these two is min(decay, t / (t + 9)) in step t = 0, 1, …
            self.ema = ModelEmaV3(
                network, recipe.ema_decay, use_warmup=recipe.ema_warmup, warmup_gamma=9, warmup_power=1
            )
            # Training mode throughout, or Lightning warns of it; evaluation switches all modules itself.
            self.ema.requires_grad_(False).train()

    @property
    def evaluated(self) -> nn.Module:
        """The averaged network where there is one."""
        return self.network if self.ema is None else self.ema.module

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of a batch.

        Raises:
            FloatingPointError: it is not finite; names step and epoch.
        """
        images, labels = batch
        if self._mix is not None:
            images, labels = self._mix(images, labels)
        loss = F.cross_entropy(self._logits(self.network, images), labels, label_smoothing=self._smoothing)
        if not torch.isfinite(loss):
            raise FloatingPointError(
                f"the loss is {loss.item()} in step {self.trainer.global_step + 1} (epoch "
                f"{self.trainer.current_epoch + 1}): training stops; lower optimizer.lr, set "
                "optimizer.gradient_clip, or use precision 32-true"
            )
        size = len(images)
        self.train_loss.update(loss.detach(), weight=size)
        self.log("train_loss", self.train_loss, on_step=False, on_epoch=True, batch_size=size)
        self.log("loss", loss.detach(), prog_bar=True, batch_size=size)
        self.log("lr", self.trainer.optimizers[0].param_groups[0]["lr"], batch_size=size)
        return loss

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step, then average."""
        super().optimizer_step(*args, **kwargs)
        if self.ema is not None:
            self.ema.update(self.network, step=self.trainer.global_step + 1)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Count a batch of validation images."""
        self._count(batch, "val")

    def configure_optimizers(self) -> Any:
        """Nesterov SGD and its schedule; biases, norms and no_weight_decay() are not decayed."""
        recipe = self._recipe
        optimizer = create_optimizer_v2(
            self.network,
            "sgd",
            lr=recipe.scaled_lr,
            weight_decay=recipe.weight_decay,
            momentum=recipe.momentum,
        )
        total = recipe.epochs * self._steps_per_epoch
        warmup = min(round(recipe.warmup_epochs * self._steps_per_epoch), total - 1)
        schedule = LambdaLR(optimizer, lambda step: warmup_cosine(step, total, warmup))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
