"""How a network learns: the optimizer, its schedule, and a moving average of the weights."""

from __future__ import annotations

import math
from typing import Any

import torch
from lightning.pytorch import LightningModule
from timm.optim import create_optimizer_v2
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import MeanMetric

from sasa.train.config import RunConfig
from sasa.train.schedule import warmup_cosine


def mean_loss() -> MeanMetric:
    """The mean over the images, NaN if one of its values is; torchmetrics would leave that one out.

    NaN takes the place of NaN, since nan_strategy="disable" of torchmetrics 1.9 drops the weights.
    """
    return MeanMetric(nan_strategy=math.nan)


class Learner(LightningModule):
    """SGD, AdamW or Muon with warm-up and cosine decay, batch-norm decay and a moving average of the weights.

    A base beside one that evaluates and holds the network: `class Classifier(Learner, Evaluator)`.

    Attributes:
        network: what learns.
        ema: the moving average, evaluated in the network's place; None if it is off.
    """

    network: nn.Module
    ema: ModelEmaV3 | None

    def learn(self, config: RunConfig, steps_per_epoch: int) -> None:
        """Set the network up for training, in place.

        Args:
            config: the recipe.
            steps_per_epoch: optimizer steps of an epoch.
        """
        recipe, network = config.optimizer, self.network
        self._recipe = recipe
        self._steps_per_epoch = steps_per_epoch
        for module in network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.momentum = recipe.bn_momentum
        if config.runtime.compile:
            self.compile_network()
        self.train_loss = mean_loss()
        self.ema = None
        if recipe.ema_decay > 0:
            # timm's warm-up with these two is min(decay, t / (t + 9)) in step t = 0, 1, …
            self.ema = ModelEmaV3(
                network, recipe.ema_decay, use_warmup=recipe.ema_warmup, warmup_gamma=9, warmup_power=1
            )
            # Training mode throughout, or Lightning warns of it; evaluation switches all modules itself.
            self.ema.requires_grad_(False).train()

    def compile_network(self) -> None:
        """Let torch.compile run the network."""
        self.network.compile()

    def loss(self, batch: Any) -> tuple[Tensor, int]:
        """Loss of a training batch, and how many images it is the mean of."""
        raise NotImplementedError  # each task has its own

    @property
    def evaluated(self) -> nn.Module:
        """The averaged network where there is one."""
        return self.network if self.ema is None else self.ema.module

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Loss of a batch.

        Raises:
            FloatingPointError: it is not finite; names step and epoch.
        """
        loss, size = self.loss(batch)
        if not torch.isfinite(loss):
            raise FloatingPointError(
                f"the loss is {loss.item()} in step {self.trainer.global_step + 1} (epoch "
                f"{self.trainer.current_epoch + 1}): training stops; lower optimizer.lr, set "
                "optimizer.clip_grad, or use precision 32-true"
            )
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

    def configure_optimizers(self) -> Any:
        """The optimizer and its schedule; biases, norms and no_weight_decay() are not decayed."""
        recipe = self._recipe
        optimizer = create_optimizer_v2(
            self.network,
            recipe.name,
            lr=recipe.peak_lr,
            weight_decay=recipe.weight_decay,
            momentum=recipe.momentum,
            fallback_no_weight_decay=True,  # Muon is for matrices; position embeddings are none
        )
        total = recipe.epochs * self._steps_per_epoch
        warmup = min(round(recipe.warmup_epochs * self._steps_per_epoch), total - 1)
        schedule = LambdaLR(optimizer, lambda step: warmup_cosine(step, total, warmup))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
