"""torchvision's and Hugging Face's data and the streams, through timm; readers are stood in for."""

from __future__ import annotations

import gzip
import io
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from timm.data.dataset import IterableImageDataset

from sasa.data import BrokenImageError, ImageStream, check_classes, create_dataset, find_broken, readers
from sasa.data import streams as streams_module


@pytest.fixture
def mnist(tmp_path: Path) -> Path:
    """Four training images and two test images in MNIST's own files."""
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for prefix, labels in (("train", [3, 1, 4, 1]), ("t10k", [5, 9])):
        pixels = bytes(value * 10 for value in labels for _ in range(784))
        images = struct.pack(">4I", 0x803, len(labels), 28, 28) + pixels
        targets = struct.pack(">2I", 0x801, len(labels)) + bytes(labels)
        for kind, data in (("images-idx3", images), ("labels-idx1", targets)):
            (raw / f"{prefix}-{kind}-ubyte").write_bytes(data)
            (raw / f"{prefix}-{kind}-ubyte.gz").write_bytes(gzip.compress(data))
    return tmp_path


def test_torchvision(mnist: Path) -> None:
    dataset = create_dataset("torch/mnist", "train", root=str(mnist), in_chans=1)
    assert dataset.targets == [3, 1, 4, 1]
    assert dataset.classes[3] == "3 - three"
    image, label = dataset[2]
    assert (image.getpixel((0, 0)), image.mode, label) == (40, "L", 4)
    assert create_dataset("torch/mnist", "test", root=str(mnist)).targets == [5, 9]


def test_torchvision_splits_are_not_guessed(mnist: Path) -> None:
    with pytest.raises(ValueError, match="'train' or 'test' for torch/mnist, got 'validation'"):
        create_dataset("torch/mnist", "validation", root=str(mnist))


def test_torchvision_unknown_name() -> None:
    with pytest.raises(ValueError, match=r"torch/nosuch.*Unknown torchvision dataset"):
        create_dataset("torch/nosuch", root=".")


def test_torchvision_folder_is_refused(tree: Path) -> None:
    with pytest.raises(ValueError, match="source: expected the folder itself"):
        create_dataset("torch/image_folder", root=str(tree))


class HuggingFace:
    """What we use of timm's reader: three images, the last one broken, the first unlabeled."""

    def __init__(self) -> None:
        self.label_key = "label"
        self.class_to_idx = {"yes": 1, "no": 0}
        self.dataset = {"label": [-1, 0, 1]}

    def __getitem__(self, index: int) -> tuple[io.BytesIO, int]:
        file = io.BytesIO()
        Image.new("L", (3, 2), index).save(file, "PNG")
        data = file.getvalue()[: 30 if index == 2 else None]
        return io.BytesIO(data), self.dataset["label"][index]


def test_hugging_face(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr(readers, "require_package", lambda source: None)
    monkeypatch.setattr(
        readers, "create_reader", lambda *args, **kw: asked.update(args=args, **kw) or HuggingFace()
    )
    dataset = create_dataset("hfds/me/data", "train", root="cache")
    assert asked == {"args": ("hfds/me/data",), "split": "train", "root": "cache"}
    assert dataset.classes == ["no", "yes"]
    assert dataset.targets == [-1, 0, 1]
    assert (dataset[1][0].mode, dataset[1][0].size) == ("RGB", (3, 2))
    assert list(find_broken(dataset)) == [2]
    with pytest.raises(BrokenImageError, match=r"hfds/me/data/train\[2\]"):
        dataset[2]
    with pytest.raises(ValueError, match=r"labels: expected 0 … 1 .*got -1 for hfds/me/data/train\[0\]"):
        check_classes(dataset, dataset)
    with pytest.raises(ValueError, match="class_map: expected none"):
        create_dataset("hfds/me/data", "train", class_map={"a": 0})


@pytest.mark.parametrize("source", ["hfds/x", "hfids/x", "wds/x", "tfds/x"])
def test_missing_package_is_named(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=f"source '{source}' needs the package .*pip install"):
        create_dataset(source, on_broken="skip" if source == "wds/x" else "raise", is_training=True)


class Shards:
    """A stream's reader: images with the labels given; records what it is told."""

    def __init__(self, labels: list[int], class_to_idx: dict[str, int] | None = None) -> None:
        self.labels = labels
        self.class_to_idx = class_to_idx or {}
        self.told: list[int | None] = []
        self.images: list[Image.Image] = []

    def __len__(self) -> int:
        return len(self.labels)

    def __iter__(self) -> Any:
        images = self.images or [Image.new("L", (2, 2), label) for label in self.labels]
        return iter(list(zip(images, self.labels, strict=True)))

    def set_epoch(self, epoch: int) -> None:
        self.told.append(epoch)

    def set_loader_cfg(self, num_workers: int | None = None) -> None:
        self.told.append(num_workers)


@pytest.fixture
def shards(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Stands in for timm's readers; set .reader first, .options are what it was opened with."""
    box = SimpleNamespace(reader=None, options=None)

    def create(name: str, **options: Any) -> IterableImageDataset:
        box.options = {"name": name, **options}
        return IterableImageDataset(None, reader=box.reader)

    monkeypatch.setattr(streams_module, "require_package", lambda source: None)
    monkeypatch.setattr(streams_module, "create_dataset", create)
    return box


def test_stream(shards: SimpleNamespace) -> None:
    shards.reader = Shards([1, 0, 1], {"no": 0, "yes": 1})
    stream = create_dataset(
        "hfids/x", "train", in_chans=1, transform=lambda i: i.size, is_training=True, batch_size=8
    )
    assert isinstance(stream, ImageStream)
    assert shards.options == {
        "name": "hfids/x",
        "split": "train",
        "input_img_mode": "",
        "is_training": True,
        "batch_size": 8,
    }
    assert stream.classes == ["no", "yes"]
    assert len(stream) == 3
    assert list(stream) == [((2, 2), 1), ((2, 2), 0), ((2, 2), 1)]
    stream.set_epoch(7)
    stream.set_workers(4)
    assert shards.reader.told == [7, 4]
    assert not hasattr(stream, "targets")
    check_classes(stream, stream)


def test_stream_turns_and_scales_images(shards: SimpleNamespace, caplog: pytest.LogCaptureFixture) -> None:
    """EXIF orientation, 16 bits and an image that cannot be converted, which wds skips."""
    turned = Image.new("RGB", (4, 2))
    turned.info["exif"] = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    deep, broken = Image.fromarray(np.full((2, 2), 257 * 40, np.uint16)), Image.new("F", (2, 2))
    shards.reader = Shards([0, 0, 0], {"no": 0})
    shards.reader.images = [turned, deep, broken]
    images = [image for image, _ in create_dataset("wds/x", "train", on_broken="skip", is_training=False)]
    assert [(image.mode, image.size) for image in images] == [("RGB", (2, 4)), ("RGB", (2, 2))]
    assert images[1].getpixel((0, 0)) == (40, 40, 40)
    assert "skipped an image: wds/x/train: broken image: expected 8 or 16 bits" in caplog.text
    with pytest.raises(BrokenImageError, match="hfids/x/train: broken image"):
        list(create_dataset("hfids/x", "train", is_training=False))


def test_stream_checks_labels_as_they_come(shards: SimpleNamespace) -> None:
    shards.reader = Shards([1, 0, 2])
    stream = create_dataset("wds/x", "train", on_broken="skip", is_training=False, classes=["no", "yes"])
    with pytest.raises(ValueError, match=r"labels: expected 0 … 1 .* in wds/x/train, got 2"):
        list(stream)


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("wds/x", {"is_training": True}, "on_broken: expected 'skip' for wds/x/train, .* got 'raise'"),
        ("hfids/x", {"is_training": True, "on_broken": "skip"}, "on_broken: expected 'raise'"),
        ("hfids/x", {}, "is_training: expected a name and True or False"),
        ("hfids/x", {"is_training": True}, "expected data with class names, got none"),
    ],
)
def test_stream_errors(shards: SimpleNamespace, source: str, options: dict[str, Any], message: str) -> None:
    shards.reader = Shards([0])
    with pytest.raises(ValueError, match=message):
        create_dataset(source, "train", **options)


def test_stream_of_unknown_length(shards: SimpleNamespace) -> None:
    shards.reader = Shards([])
    with pytest.raises(ValueError, match="num_samples: expected the number of samples"):
        create_dataset("hfids/x", "train", is_training=False, classes=["a"])
