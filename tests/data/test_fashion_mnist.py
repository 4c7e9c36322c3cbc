"""The built-in images and the tool that cut them out."""

from __future__ import annotations

import gzip
import runpy
import sys
from collections import Counter
from importlib import resources
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from sasa.data import (
    FASHION_MNIST_CLASSES,
    FASHION_MNIST_MEAN,
    FASHION_MNIST_STD,
    create_dataset,
    load_fashion_mnist,
)

TOOL = Path(__file__).parents[2] / "tools" / "make_fashion_mnist_subset.py"


@pytest.mark.parametrize(("split", "per_class"), [("train", 1000), ("test", 200)])
def test_balanced_and_complete(split: str, per_class: int) -> None:
    dataset = create_dataset(split=split)
    assert len(dataset) == 10 * per_class
    assert Counter(dataset.targets) == dict.fromkeys(range(10), per_class)
    assert dataset.classes == list(FASHION_MNIST_CLASSES)
    assert dataset.skipped == 0
    image, label = dataset[0]
    assert (image.mode, image.size, label) == ("L", (28, 28), 9)


def test_splits_share_no_image() -> None:
    train, test = ({image.tobytes() for image in load_fashion_mnist(s)[0]} for s in ("train", "test"))
    assert len(train) > 9900
    assert not train & test


def test_labels_belong_to_the_images() -> None:
    # Nearest class mean, learnt on the training split: about 68 % right, 10 % if labels were shuffled.
    images, labels = load_fashion_mnist("train")
    means = np.stack([images[labels == label].mean(0) for label in range(10)])
    test_images, test_labels = load_fashion_mnist("test")
    distance = ((test_images[:, None].astype(np.float32) - means) ** 2).sum((2, 3))
    assert (distance.argmin(1) == test_labels).mean() > 0.6


def test_statistics_are_the_training_images_own() -> None:
    images, _ = load_fashion_mnist("train")
    assert (round(images.mean() / 255, 4),) == FASHION_MNIST_MEAN
    assert (round(images.std() / 255, 4),) == FASHION_MNIST_STD


def test_as_rgb() -> None:
    image, _ = create_dataset(split="test", in_chans=3)[5]
    assert image.mode == "RGB"


def test_arrays_are_read_only() -> None:
    with pytest.raises(ValueError, match="read-only"):
        load_fashion_mnist("test")[0][0] = 0


@pytest.mark.parametrize("split", ["validation", "tests", None])
def test_other_splits_are_refused(split: str | None) -> None:
    with pytest.raises(ValueError, match=r"'train' or 'test' for fashion-mnist, got .*train_val_split"):
        create_dataset(split=split)


def test_license_lies_beside() -> None:
    text = resources.files("sasa.data.fashion_mnist").joinpath("LICENSE").read_text("utf-8")
    assert "2017 Zalando SE" in text
    assert "Permission is hereby granted" in text


def test_tool_takes_the_first_of_each_class_and_repeats_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for prefix in ("train", "t10k"):
        labels = np.repeat(np.arange(10), 7)[::-1].astype(np.uint8)
        images = np.zeros((70, 784), np.uint8)
        images[:, 0] = range(70)
        for kind, header, body in (("images-idx3", 16, images), ("labels-idx1", 8, labels)):
            data = gzip.compress(bytes(header) + body.tobytes())
            (tmp_path / f"{prefix}-{kind}-ubyte.gz").write_bytes(data)
    tool = SimpleNamespace(**runpy.run_path(str(TOOL)))
    splits = (("train", "train", 5), ("test", "t10k", 2))
    monkeypatch.setitem(tool.main.__globals__, "SPLITS", splits)
    written = []
    for run in ("one", "two"):
        (tmp_path / run).mkdir()
        monkeypatch.setattr(sys, "argv", [str(TOOL), str(tmp_path), "--output", str(tmp_path / run)])
        tool.main()
        written.append([(tmp_path / run / f"{s}.npy.xz").read_bytes() for s in ("train", "test")])
    assert written[0] == written[1]
    monkeypatch.setattr(resources, "files", lambda _: tmp_path / "one")
    load = load_fashion_mnist.__wrapped__
    for split, per_class in (("train", 5), ("test", 2)):
        images, labels = load(split)
        first = [7 * c + i for c in range(10) for i in range(per_class)]
        assert images[:, 0, 0].tolist() == first
        assert labels.tolist() == [9 - number // 7 for number in first]


def test_tool_refuses_too_few_images(tmp_path: Path) -> None:
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(bytes(16 + 784)))
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(bytes(8 + 1)))
    with pytest.raises(ValueError, match="expected 1000 images of each of 10 classes"):
        runpy.run_path(str(TOOL))["subset"](tmp_path, "train", 1000)
