"""Runs of tiny detectors on a few of the built-in scenes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sasa.train import DetectionConfig, RuntimeConfig, train
from sasa.train.detection.config import (
    DetectionAugmentationConfig,
    DetectionDataConfig,
    DetectionOptimizerConfig,
    DetectorConfig,
)

# Attention everywhere, an eighth of the channels.
MODEL: dict[str, Any] = {
    "backbone": "sasa_resnet26",
    "backbone_options": {"width_mult": 0.125, "num_heads": 2, "kernel_size": 3},
    "options": {"fpn_channels": 16, "num_heads": 2, "kernel_size": 3},
}


Run = tuple[DetectionConfig, dict[str, Any]]


@pytest.fixture(scope="session")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """40 steps on four scenes, evaluated on the same: configuration and results."""
    config = DetectionConfig(
        model=DetectorConfig(**{**MODEL, "options": {**MODEL["options"], "fpn_channels": 64}}),
        data=DetectionDataConfig(
            val_split="train",
            test_split="train",
            size=64,
            options={"length": 4, "size": 64, "max_items": 2, "seed": 1},
        ),
        augmentation=DetectionAugmentationConfig(scale=(1.0, 1.0), hflip=0.0),
        optimizer=DetectionOptimizerConfig(
            batch_size=4, epochs=40, lr_base=3.0, warmup_epochs=2.0, ema_decay=0.0, clip_grad=2.0
        ),
        runtime=RuntimeConfig(accelerator="cpu"),
        seed=3,
        run=str(tmp_path_factory.mktemp("learned") / "run"),
    )
    return config, train(config)


@pytest.fixture
def make_config(tmp_path: Path) -> Callable[..., DetectionConfig]:
    """A configuration of 2 epochs of 2 steps on scenes of 64 × 64, sections overridden by keywords."""

    def make(
        run: str = "run",
        model: dict[str, Any] | None = None,
        data: dict[str, Any] | None = None,
        augmentation: dict[str, Any] | None = None,
        optimizer: dict[str, Any] | None = None,
        runtime: dict[str, Any] | None = None,
        seed: int = 3,
    ) -> DetectionConfig:
        scenes = {"length": 5, "size": 64, "max_items": 2}
        return DetectionConfig(
            model=DetectorConfig(**{**MODEL, **(model or {})}),
            data=DetectionDataConfig(**{"size": 64, "options": scenes, **(data or {})}),
            augmentation=DetectionAugmentationConfig(**(augmentation or {})),
            optimizer=DetectionOptimizerConfig(
                **{"batch_size": 2, "epochs": 2, "lr_base": 0.5, "warmup_epochs": 0.5, **(optimizer or {})}
            ),
            runtime=RuntimeConfig(**{"accelerator": "cpu", **(runtime or {})}),
            seed=seed,
            run=str(tmp_path / run),
        )

    return make
