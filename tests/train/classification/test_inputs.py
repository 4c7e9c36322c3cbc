"""Images as a classifier takes them, and as pictures."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from sasa.data import (
    FASHION_MNIST_CLASSES,
    FASHION_MNIST_MEAN,
    FASHION_MNIST_STD,
    ImageDataset,
    create_dataset,
    load_fashion_mnist,
)
from sasa.train import (
    WeightsMetadata,
    first_image_per_class,
    load_images,
)

METADATA = WeightsMetadata(
    model="sasa_resnet26",
    options={},
    classes=list(FASHION_MNIST_CLASSES),
    input_size=[1, 28, 28],
    mean=list(FASHION_MNIST_MEAN),
    std=list(FASHION_MNIST_STD),
)


def test_images_are_shown_as_they_are(tmp_path: Path) -> None:
    """The picture to draw on holds the file's pixels, the batch their normalized values."""
    image = load_fashion_mnist("test")[0][0]
    Image.fromarray(image).save(tmp_path / "boot.png")
    batch, pixels = load_images([tmp_path / "boot.png"], METADATA)
    original = torch.tensor(image) / 255
    torch.testing.assert_close(torch.tensor(pixels[0]), original, rtol=0, atol=1e-6)
    mean, std = FASHION_MNIST_MEAN[0], FASHION_MNIST_STD[0]
    torch.testing.assert_close(batch[0, 0], (original - mean) / std, rtol=0, atol=1e-5)


def test_one_test_image_of_each_class() -> None:
    data = create_dataset("fashion-mnist", "test")
    assert isinstance(data, ImageDataset)
    batch, pixels, captions = first_image_per_class(METADATA, data)
    assert captions == list(FASHION_MNIST_CLASSES)
    images, labels = load_fashion_mnist("test")
    for label, pixel in enumerate(pixels):
        first = images[labels == label][0]
        torch.testing.assert_close(torch.tensor(pixel), torch.tensor(first) / 255, rtol=0, atol=1e-6)
    assert batch.shape == (10, 1, 28, 28)


def test_of_no_more_classes_than_asked_for_is_an_image_read(monkeypatch: pytest.MonkeyPatch) -> None:
    data = create_dataset("fashion-mnist", "test")
    assert isinstance(data, ImageDataset)
    read: list[int] = []
    load = data.source.load
    monkeypatch.setattr(data.source, "load", lambda index: read.append(index) or load(index))
    batch, pixels, captions = first_image_per_class(METADATA, data, 3)
    assert captions == list(FASHION_MNIST_CLASSES[:3])
    assert len(batch) == len(pixels) == len(read) == 3
