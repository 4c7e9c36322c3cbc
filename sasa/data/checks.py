"""Checks of data sets against each other and the model, before the first training step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sized
from typing import Any

from sasa.data.datasets import ImageDataset
from sasa.data.layout import quoted
from sasa.data.streams import ImageStream
from sasa.errors import require


def check_classes(
    train: ImageDataset | ImageStream,
    test: ImageDataset | ImageStream,
    num_classes: int | None = None,
) -> None:
    """Check that training and test data have the same classes and that every label fits.

    The labels of a stream are not known in advance; they are checked while it is read.

    Args:
        train: The training data.
        test: The data for evaluation.
        num_classes: The number of the model's classes; None means len(train.classes).

    Raises:
        ValueError: There are no images, a class is in one data set only, the classes are in another order, a
            class has no training image, or a label is not in 0 … num_classes - 1.
    """
    datasets = {"training": train, "test": test}
    stored = {part: dataset for part, dataset in datasets.items() if isinstance(dataset, ImageDataset)}
    for part, dataset in stored.items():
        check_not_empty(dataset, f"{part} images", dataset.location)
    check_numbering(dict(enumerate(train.classes)), dict(enumerate(test.classes)), num_classes)
    limit = len(train.classes) if num_classes is None else num_classes
    for dataset in stored.values():
        wrong = {label: n for label, n in Counter(dataset.targets).items() if not 0 <= label < limit}
        if wrong:
            label = min(wrong)
            raise ValueError(
                f"labels: expected 0 … {limit - 1} for {limit} classes, got {label} for "
                f"{dataset.name(dataset.targets.index(label))}; {sum(wrong.values())} images of "
                f"{dataset.location} have such labels"
            )
    if isinstance(train, ImageDataset):
        missing = set(range(len(train.classes))) - set(train.targets)
        if missing:
            names = quoted(train.classes[label] for label in missing)
            raise ValueError(
                f"{train.location}: expected training images of every class, got none of {names}"
            )


def check_not_empty(items: Sized, expected: str, location: str) -> None:
    """Raise ValueError if there are no items."""
    if len(items) == 0:
        raise ValueError(f"{location}: expected {expected}, got none")


def check_numbering(train: Mapping[Any, str], test: Mapping[Any, str], num_classes: int | None) -> None:
    """Check that training and test data have the same classes under the same numbers.

    Args:
        train: Class names of the training data by number (in detection, by the category's id).
        test: Class names of the data for evaluation by number.
        num_classes: The number of the model's classes; None for any.

    Raises:
        ValueError: The classes or their numbers differ, or there are more than num_classes.
    """
    only_train, only_test = (
        set(one.values()) - set(other.values()) for one, other in ((train, test), (test, train))
    )
    if only_train or only_test:
        raise ValueError(
            f"classes: expected the same in training and test data, got {quoted(only_train) or 'none'} in "
            f"training only and {quoted(only_test) or 'none'} in test only"
        )
    if list(train.items()) != list(test.items()):
        raise ValueError(
            "classes: expected the same numbers in training and test data, got "
            f"{dict(train)} and {dict(test)}"
        )
    if num_classes is not None:
        expected = f"at least {len(train)}, the number of classes in the data"
        require(len(train) <= num_classes, "num_classes", expected, num_classes)
