"""Classes and labels are checked before the first step."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from sasa.data import ImageDataset, check_classes, create_dataset


class Labels:
    """A source with the given labels and pictures of one pixel."""

    location = "made up"

    def __init__(self, targets: list[int], classes: list[str]) -> None:
        self.targets = targets
        self.classes = classes

    def name(self, index: int) -> str:
        return f"picture {index}"

    def load(self, index: int) -> Image.Image:
        return Image.new("L", (1, 1))


def labeled(targets: list[int], classes: str = "ab") -> ImageDataset:
    return ImageDataset(Labels(targets, list(classes)), mode="L")


def test_good_data_passes(tree: Path) -> None:
    check_classes(create_dataset(tree), create_dataset(tree, "test"))
    check_classes(create_dataset(tree), create_dataset(tree, "test"), num_classes=1000)
    check_classes(labeled([0, 1]), labeled([0]))


def test_class_in_training_only(tree: Path, draw: Callable[..., Path]) -> None:
    draw(tree / "train" / "dog" / "0.png")
    with pytest.raises(ValueError, match="got 'dog' in training only and none in test only"):
        check_classes(create_dataset(tree), create_dataset(tree, "test"))


def test_class_in_test_only(tree: Path, draw: Callable[..., Path]) -> None:
    for split in ("train", "val"):
        draw(tree / split / "dog" / "0.png")
    shutil.rmtree(tree / "train" / "bird")
    with pytest.raises(ValueError, match="got none in training only and 'bird' in test only"):
        check_classes(create_dataset(tree), create_dataset(tree, "test"))


def test_another_order() -> None:
    with pytest.raises(
        ValueError, match=r"expected the same numbers .*, got {0: 'a', 1: 'b'} and {0: 'b', 1: 'a'}"
    ):
        check_classes(labeled([0, 1], "ab"), labeled([0, 1], "ba"))


@pytest.mark.parametrize("targets", [[0, 1, 2], [0, 1, -1]])
def test_label_out_of_range(targets: list[int]) -> None:
    with pytest.raises(
        ValueError, match=f"labels: expected 0 … 1 .*got {targets[2]} for picture 2; 1 images"
    ):
        check_classes(labeled(targets), labeled([0, 1]))
    with pytest.raises(ValueError, match="labels: expected 0 … 1 for 2 classes"):
        check_classes(labeled([0, 1]), labeled(targets))


def test_model_with_too_few_classes() -> None:
    with pytest.raises(ValueError, match=r"num_classes: expected at least 2, .* got 1"):
        check_classes(labeled([0, 1]), labeled([0, 1]), num_classes=1)


def test_class_without_training_image() -> None:
    with pytest.raises(ValueError, match="made up: expected training images of every class, got none of 'b'"):
        check_classes(labeled([0, 0]), labeled([0, 1]))


@pytest.mark.parametrize("part", ["training", "test"])
def test_no_images(part: str) -> None:
    train, test = (labeled([] if part == name else [0, 1]) for name in ("training", "test"))
    with pytest.raises(ValueError, match=f"made up: expected {part} images, got none"):
        check_classes(train, test)
