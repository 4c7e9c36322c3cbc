"""What one step of training and of evaluation does."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from timm.data.mixup import Mixup
from torch import Tensor, nn
from torchmetrics import Metric, SumMetric
from torchmetrics.classification import MulticlassAccuracy

from sasa.train.config import TrainConfig
from sasa.train.learner import Learner, mean_loss

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
        "loss": mean_loss(),
        "top1": MulticlassAccuracy(num_classes, average="micro", validate_args=False),
        "images": SumMetric(),
    }
    if num_classes > 5:
        metrics["top5"] = MulticlassAccuracy(num_classes, top_k=5, average="micro", validate_args=False)
    return nn.ModuleDict(metrics)


class Classifier(Learner, Evaluator):
    """A classifier in training."""

    def __init__(
        self, network: nn.Module, config: TrainConfig, *, num_classes: int, steps_per_epoch: int
    ) -> None:
        """Set the network up for training, in place.

        Args:
            network: images → logits, of timm's kind.
            config: the recipe.
            num_classes: number of logits.
            steps_per_epoch: optimizer steps of an epoch.
        """
        super().__init__(network, num_classes, channels_last=config.runtime.channels_last)
        augmentation = config.augmentation
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
        self.learn(config, steps_per_epoch)

    def loss(self, batch: Batch) -> tuple[Tensor, int]:
        """Cross-entropy of the mixed and smoothed labels."""
        images, labels = batch
        if self._mix is not None:
            images, labels = self._mix(images, labels)
        logits = self._logits(self.network, images)
        return F.cross_entropy(logits, labels, label_smoothing=self._smoothing), len(images)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Count a batch of validation images."""
        self._count(batch, "val")
