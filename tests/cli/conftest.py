"""A tiny classifier, and images."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from sasa.data import (
    FASHION_MNIST_CLASSES,
    FASHION_MNIST_MEAN,
    FASHION_MNIST_STD,
    load_fashion_mnist,
)
from sasa.train import (
    WeightsMetadata,
    save_weights,
)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of the built-in images that is not trained."""
    torch.manual_seed(0)
    metadata = WeightsMetadata(
        model="sasa_resnet26",
        options={"width_mult": 0.125, "num_heads": 2, "kernel_size": 3},
        classes=list(FASHION_MNIST_CLASSES),
        input_size=[1, 28, 28],
        mean=list(FASHION_MNIST_MEAN),
        std=list(FASHION_MNIST_STD),
    )
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_weights(path, metadata.create_model(), metadata)
    return path


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve training and twelve test images of 16 × 16 pixels, red and green ones."""
    root = tmp_path_factory.mktemp("images")
    for split in ("train", "test"):
        for label, color in enumerate(("red", "green")):
            (root / split / color).mkdir(parents=True)
            for number in range(6):
                shade = tuple(250 - number if channel == label else number for channel in range(3))
                Image.new("RGB", (16, 16), shade).save(root / split / color / f"{number}.png")
    return root


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A file of a built-in test image, of a boot."""
    path = tmp_path / "boot.png"
    Image.fromarray(load_fashion_mnist("test")[0][0]).save(path)
    return path
