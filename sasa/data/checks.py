"""Checks of data sets against each other and the model, before the first training step."""

from __future__ import annotations

from collections import Counter

from sasa.data.datasets import ImageDataset
from sasa.data.layout import quoted
from sasa.data.streams import ImageStream


def check_classes(
    train: ImageDataset | ImageStream,
    test: ImageDataset | ImageStream,
    num_classes: int | None = None,
) -> None:
    """Check that training and test data agree on the classes and that every label fits.

    A stream's labels are not known beforehand: they are checked as they come.

    Args:
        train: the training data.
        test: the data to evaluate on.
        num_classes: how many classes the model tells apart; None means len(train.classes).

    Raises:
        ValueError: no images, a class that only one of the two has, the same classes in another
            order, a class without a training image, or a label outside 0 … num_classes - 1.
    """
    for part, dataset in (("training", train), ("test", test)):
        if isinstance(dataset, ImageDataset) and len(dataset) == 0:
            raise ValueError(f"the {part} data has no images: {dataset.source.where}")
    only_train = set(train.classes) - set(test.classes)
    only_test = set(test.classes) - set(train.classes)
    if only_train or only_test:
        raise ValueError(
            "training and test data must have the same classes; only in training: "
            f"{quoted(only_train) or 'none'}; only in test: {quoted(only_test) or 'none'}"
        )
    if train.classes != test.classes:
        raise ValueError(
            f"training and test data number the same classes differently: {train.classes} and {test.classes}"
        )
    limit = len(train.classes) if num_classes is None else num_classes
    if len(train.classes) > limit:
        raise ValueError(
            f"num_classes must be at least {len(train.classes)}, the number of classes in the "
            f"data, got {limit}"
        )
    for dataset in (train, test):
        if isinstance(dataset, ImageDataset):
            _check_labels(dataset, limit)
    if isinstance(train, ImageDataset):
        missing = set(range(len(train.classes))) - set(train.targets)
        if missing:
            names = quoted(train.classes[label] for label in missing)
            raise ValueError(f"classes without a training image: {names}")


def _check_labels(dataset: ImageDataset, limit: int) -> None:
    wrong = {label: n for label, n in Counter(dataset.targets).items() if not 0 <= label < limit}
    if wrong:
        label = min(wrong)
        raise ValueError(
            f"labels must be 0 … {limit - 1} for {limit} classes, but {sum(wrong.values())} images "
            f"of {dataset.source.where} have others, such as {label} for "
            f"{dataset.name(dataset.targets.index(label))}"
        )
