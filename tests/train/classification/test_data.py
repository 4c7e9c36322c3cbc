"""The images of a classifier's run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from PIL import Image

from sasa.data import FASHION_MNIST_MEAN, FASHION_MNIST_STD, ImageStream
from sasa.train import TrainConfig, evaluate, train
from sasa.train.classification.data import ImageData

MakeConfig = Callable[..., TrainConfig]


def test_defaults_follow_the_source(make_config: MakeConfig) -> None:
    built_in = ImageData(make_config(data={"source": "fashion-mnist", "input_size": None}))
    assert built_in.input_size == (1, 28, 28)
    assert built_in.mean == FASHION_MNIST_MEAN
    assert len(built_in.classes) == 10
    color = ImageData(make_config(data={"source": "fashion-mnist", "in_chans": 3}))
    assert color.std == FASHION_MNIST_STD * 3
    own = ImageData(make_config(data={"input_size": None}))
    assert own.input_size == (3, 224, 224)
    assert own.mean == (0.485, 0.456, 0.406)
    gray = ImageData(make_config(data={"in_chans": 1, "mean": [0.5]}))
    assert gray.mean == (0.5,)
    assert gray.std == pytest.approx(((0.229 + 0.224 + 0.225) / 3,))


def test_validation_is_held_out_or_a_split(make_config: MakeConfig) -> None:
    held = ImageData(make_config(data={"val_fraction": 0.2}))
    assert (len(held.training), len(held.validation)) == (20, 6)
    split = ImageData(make_config(data={"val_split": "test"}))
    assert (len(split.training), len(split.validation)) == (26, 7)


class FakeStream(ImageStream):
    """What timm's readers of streams need packages for."""

    def __init__(self, images: int, transform: Any) -> None:
        self.images = images
        self.location = "wds/fake"
        self.classes = ["a", "b"]
        self.transform = transform
        self.epochs: list[int] = []

    def __len__(self) -> int:
        return self.images

    def __iter__(self) -> Iterator[tuple[Any, int]]:
        for number in range(self.images):
            yield self.transform(Image.new("RGB", (16, 16), (number, 0, 0))), number % 2

    def set_epoch(self, epoch: int) -> None:
        self.epochs.append(epoch)

    def set_workers(self, count: int) -> None:
        self.workers = count


def test_streams(make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[tuple[str, dict[str, Any], FakeStream]] = []

    def open_fake(source: str, split: str, *, transform: Any, **options: Any) -> FakeStream:
        opened.append((split, options, FakeStream(20 if split == "train" else 5, transform)))
        return opened[-1][2]

    monkeypatch.setattr("sasa.train.classification.data.create_dataset", open_fake)
    config = make_config(data={"source": "wds/fake", "val_split": "val", "options": {"num_samples": 20}})
    results = train(config)
    assert (results["steps"], results["images"]) == (4, 5)
    options = {split: options for split, options, _ in opened}
    assert options["train"]["is_training"]
    assert options["train"]["num_samples"] == 20
    assert not options["test"]["is_training"]
    assert opened[0][2].epochs == [0, 1]

    monkeypatch.setattr("sasa.train.classification.evaluation.create_dataset", open_fake)
    evaluated = evaluate(config.folder, "wds/fake", "test", num_samples=5)
    assert (evaluated["images"], evaluated["top1"]) == (5, results["top1"])
    assert not opened[-1][1]["is_training"]
    assert opened[-1][1]["num_samples"] == 5

    with pytest.raises(ValueError, match=r"data\.val_split: expected a split"):
        ImageData(make_config(data={"source": "wds/fake"}))
