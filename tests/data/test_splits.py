"""The held-out part: stratified, repeatable, disjoint, with its own transform."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from sasa.data import ImageDataset, create_dataset, train_val_split


def width(image: Image.Image) -> int:
    return image.width


def height(image: Image.Image) -> int:
    return image.height


def fashion() -> ImageDataset:
    dataset = create_dataset()
    assert isinstance(dataset, ImageDataset)
    return dataset


def test_stratified_disjoint_and_complete() -> None:
    training, validation = train_val_split(fashion())
    assert Counter(validation.targets) == dict.fromkeys(range(10), 40)
    assert Counter(training.targets) == dict.fromkeys(range(10), 960)
    assert sorted([*training.indices, *validation.indices]) == list(range(10_000))
    assert training.classes == validation.classes == fashion().classes
    assert [label for _, label in validation.select(range(50), None)] == validation.targets[:50]


def test_depends_on_the_seed_alone() -> None:
    first, second, other = (train_val_split(fashion(), seed=seed)[1].indices for seed in (3, 3, 4))
    assert first == second
    assert first != other


def test_the_choice_is_pinned() -> None:
    # A run that is resumed after an upgrade must not validate on images it has trained on.
    assert train_val_split(fashion())[1].indices[:5] == [0, 21, 35, 115, 138]


def test_transforms_stay_apart(tree: Path) -> None:
    dataset = create_dataset(tree, transform=width)
    assert isinstance(dataset, ImageDataset)
    training, validation = train_val_split(dataset, val_transform=height)
    assert {value for value, _ in training} == {12}
    assert {value for value, _ in validation} == {8}
    bare = train_val_split(dataset)[1]
    assert isinstance(bare[0][0], Image.Image)


def test_holding_out_twice_counts_from_the_part(tree: Path) -> None:
    training, _ = train_val_split(create_dataset(tree), 0.3)  # type: ignore[arg-type]
    again, validation = train_val_split(training, 0.3)
    names = [part.name(i) for part in (again, validation) for i in range(len(part))]
    assert sorted(names) == sorted(training.name(i) for i in range(len(training)))


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5])
def test_fraction_out_of_range(fraction: float) -> None:
    with pytest.raises(ValueError, match=r"val_fraction: expected a number in \(0, 1\), got"):
        train_val_split(fashion(), fraction)


def test_class_too_small(tree: Path) -> None:
    for name in ("1.png", "2.png"):
        (tree / "train" / "cat" / name).unlink()
    with pytest.raises(ValueError, match=r"expected more than 1 image\(s\) of class 'cat' .*, got 1; add"):
        train_val_split(create_dataset(tree))  # type: ignore[arg-type]
