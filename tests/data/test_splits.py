"""The held-out part: stratified, repeatable, disjoint, with its own transform."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
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


@pytest.fixture
def classes(tmp_path: Path, draw: Callable[..., Path]) -> Path:
    """pets/{bird,cat} without splits: 10 and 5 images."""
    for name, count in (("bird", 10), ("cat", 5)):
        for i in range(count):
            draw(tmp_path / "pets" / name / f"{i}.png")
    return tmp_path / "pets"


@pytest.mark.parametrize("archive", [None, "zip", "tar"])
def test_class_folders_without_splits(classes: Path, archive: str | None) -> None:
    source = classes if archive is None else Path(shutil.make_archive(str(classes), archive, classes))
    training, test = (create_dataset(source, split, test_fraction=0.2) for split in ("train", "test"))
    assert isinstance(training, ImageDataset)
    assert isinstance(test, ImageDataset)
    assert Counter(test.targets) == {0: 2, 1: 1}
    names = [part.name(i) for part in (training, test) for i in range(len(part))]
    assert len(names) == len(set(names)) == 15
    other = create_dataset(source, "test", test_fraction=0.2, split_seed=1)
    assert isinstance(other, ImageDataset)
    assert other.indices != test.indices


def test_a_broken_image_does_not_change_what_is_held_out(classes: Path) -> None:
    test = create_dataset(classes, "test", test_fraction=0.2)
    assert isinstance(test, ImageDataset)
    names = [test.name(i) for i in range(3)]
    Path(names[0]).write_bytes(b"no image")
    intact = create_dataset(classes, "test", test_fraction=0.2, on_broken="skip")
    assert isinstance(intact, ImageDataset)
    assert [*intact.broken, *(intact.name(i) for i in range(len(intact)))] == names


def test_wrong_test_fractions(classes: Path, tree: Path) -> None:
    for source, split, fraction, message in (
        (classes, "train", 1.0, r"test_fraction: expected a number in \(0, 1\), got 1.0"),
        (classes, "train", 0.95, r"test_fraction: expected more than 10 image\(s\) of class 'bird'"),
        (classes, "val", 0.2, r"split: expected 'train' or 'test' beside test_fraction, got 'val'"),
        (tree, "train", 0.2, r"contains 'train', 'val', got None; test_fraction is for class folders"),
        ("fashion-mnist", "train", 0.2, r"test_fraction: expected None, as 'fashion-mnist' has splits"),
        (classes, "train", None, r"test_fraction \(data.test_fraction in a configuration\) holds out"),
    ):
        with pytest.raises(ValueError, match=message):
            create_dataset(source, split, test_fraction=fraction)
