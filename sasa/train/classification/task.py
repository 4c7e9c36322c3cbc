"""Classification as a task of a training run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import nn

import sasa
from sasa.data import ImageDataset
from sasa.train.classification.config import TrainConfig
from sasa.train.classification.costs import costs
from sasa.train.classification.data import ImageData
from sasa.train.classification.loss import ClassificationLoss
from sasa.train.classification.metrics import ClassificationMetrics
from sasa.train.classification.timm_config import write_timm_config
from sasa.train.classification.weights import WeightsMetadata, start_from
from sasa.train.config import options_of
from sasa.train.config_files import plain
from sasa.train.initial_weights import initial_weights_of
from sasa.train.run_folder import TIMM_CONFIG_FILE
from sasa.train.weights import check_shapes


class ClassificationTask:
    """A classifier on labeled images; see sasa.train.task.Task."""

    scores: ClassVar[Mapping[str, str | None]] = {"val_top1": "top-1", "val_top5": None}

    data: ImageData
    network: nn.Module
    metadata: WeightsMetadata
    loss: ClassificationLoss

    def __init__(self, config: TrainConfig) -> None:
        """Take the configuration."""
        self.config = config

    def open_data(self) -> None:
        self.data = ImageData(self.config)

    def build_network(self, *, initial: bool = True) -> None:
        config, data = self.config, self.data
        self.metadata = WeightsMetadata(
            model=config.model.name,
            options=config.model.options,
            classes=data.classes,
            input_size=list(data.input_size),
            mean=list(data.mean),
            std=list(data.std),
            crop_pct=config.data.crop_pct,
            interpolation=config.data.interpolation,
            recipe=plain(config),
            held_out=data.held_out,
        )
        with options_of("model"):
            self.network = self._initial_network() if initial else self.metadata.create_model()
        self._check_batch_size()
        self._costs = costs(self.network, self.metadata)
        if initial and config.model.weights is not None:
            start_from(config.model.weights, self.network, data.classes)
        self.loss = ClassificationLoss(
            config.augmentation, len(data.classes), channels_last=config.runtime.channels_last
        )

    def _check_batch_size(self) -> None:
        """Raise ValueError if a batch norm would see one value per channel, on meta tensors."""
        optimizer = self.config.optimizer
        if optimizer.batch_size > optimizer.grad_accum_steps:
            return
        image = torch.empty(1, *self.metadata.input_size, device="meta")
        try:
            self.metadata.create_model().to("meta").train()(image)
        except ValueError as error:
            raise ValueError(
                f"optimizer.batch_size: expected 2 or more images per step for {self.config.model.name} at "
                f"{image.shape[2]} x {image.shape[3]} pixels, since batch norm needs more than one value per "
                f"channel, got {optimizer.batch_size} in {optimizer.grad_accum_steps} part(s)"
            ) from error

    def _initial_network(self) -> nn.Module:
        """The network with the weights that its options choose, such as pretrained ones of timm."""
        model, metadata = self.config.model, self.metadata
        with initial_weights_of("model.options", model.options):
            network = sasa.create_model(
                model.name,
                num_classes=len(metadata.classes),
                in_chans=metadata.input_size[0],
                **model.options,
            )
        if metadata.options != model.options:
            check_shapes(metadata.create_model(), network.state_dict(), "model.options")
        return network

    def compile_network(self) -> None:
        self.network.compile()

    def metrics(self, images: Any) -> ClassificationMetrics:
        return ClassificationMetrics(len(self.data.classes), channels_last=self.config.runtime.channels_last)

    def describe(self) -> dict[str, Any]:
        config, data = self.config, self.data
        return {
            "model": config.model.name,
            "options": config.model.options,
            "data": config.data.source,
            "classes": len(data.classes),
            "training_images": len(data.training),
            "skipped_images": sum(
                part.skipped for part in (data.training, data.test) if isinstance(part, ImageDataset)
            ),
            **self._costs,
        }

    def scored_metadata(self, results: Mapping[str, Any]) -> WeightsMetadata:
        return dataclasses.replace(self.metadata, accuracy=results["top1"])

    def write_descriptions(self, network: nn.Module) -> None:
        write_timm_config(self.config.folder / TIMM_CONFIG_FILE, network, self.metadata)
