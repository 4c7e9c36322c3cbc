from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sasa.train import (
    AugmentationConfig,
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    RuntimeConfig,
    TrainConfig,
)


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    """Bits depend on the number of threads, and the processes that tests start have one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def write_images(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Writes 26 training and 7 test images of 3 classes, each class a color in noise, with the given side."""

    def write(side: int) -> Path:
        root = tmp_path_factory.mktemp("images")
        random = np.random.default_rng(0)
        for split, counts in (("train", (9, 9, 8)), ("test", (3, 2, 2))):
            for label, count in enumerate(counts):
                (root / split / f"class{label}").mkdir(parents=True)
                for number in range(count):
                    pixels = random.integers(0, 160, (side, side, 3), dtype=np.uint8)
                    pixels[..., label] += 90
                    Image.fromarray(pixels).save(root / split / f"class{label}" / f"{number}.png")
        return root

    return write


@pytest.fixture(scope="session")
def folder(write_images: Callable[[int], Path]) -> Path:
    """The images of 16 × 16 pixels."""
    return write_images(16)


@pytest.fixture
def make_config(folder: Path, tmp_path: Path) -> Callable[..., TrainConfig]:
    """A configuration of 2 epochs of 2 steps, sections overridden by keywords."""

    def make(
        run: str = "run",
        model: dict[str, Any] | None = None,
        data: dict[str, Any] | None = None,
        augmentation: dict[str, Any] | None = None,
        optimizer: dict[str, Any] | None = None,
        runtime: dict[str, Any] | None = None,
        seed: int = 3,
    ) -> TrainConfig:
        return TrainConfig(
            model=ModelConfig(**{"name": "test_resnet", **(model or {})}),
            data=DataConfig(**{"source": str(folder), "input_size": 16, "val_fraction": 0.2, **(data or {})}),
            augmentation=AugmentationConfig(**(augmentation or {})),
            optimizer=OptimizerConfig(
                **{"batch_size": 8, "epochs": 2, "lr_base": 20.0, "warmup_epochs": 0.5, **(optimizer or {})}
            ),
            runtime=RuntimeConfig(**{"accelerator": "cpu", **(runtime or {})}),
            seed=seed,
            run=str(tmp_path / run),
        )

    return make


@pytest.fixture
def norm_free() -> dict[str, dict[str, Any]]:
    """A recipe that gives the same steps however a batch is divided.

    Batch norm's statistics are those of the part of the batch that one process sees, and random augmentation
    depends on the process; so this has layer norm, no randomness, and no center crop at 32 pixels.
    """
    return {
        "model": {"name": "test_convnext"},
        "data": {"input_size": 32},
        "augmentation": {"hflip": 0.0, "padding": 0},
        "optimizer": {"lr_base": 5.0, "clip_grad": 1.0},
    }
