"""Checks of detection data sets against each other and the model, before the first training step."""

from __future__ import annotations

from sasa.data.detection.datasets import DetectionDataset
from sasa.data.layout import quoted


def check_categories(train: DetectionDataset, test: DetectionDataset, num_classes: int | None = None) -> None:
    """Check that training and test data number the same classes alike and that both hold objects.

    Args:
        train: the training data.
        test: the data to evaluate on.
        num_classes: how many classes the model tells apart; None means len(train.classes).

    Raises:
        ValueError: no images, no object but crowds, a class that only one of the two lists, the same classes
            under other numbers, or more classes than num_classes.
    """
    for part, dataset in (("training", train), ("test", test)):
        if len(dataset) == 0:
            raise ValueError(f"the {part} data has no images: {dataset.source.where}")
        if all(dataset.objects(index).crowds.all() for index in range(len(dataset))):
            raise ValueError(f"the {part} data has no objects: {dataset.source.where}")
    only_train = set(train.classes) - set(test.classes)
    only_test = set(test.classes) - set(train.classes)
    if only_train or only_test:
        raise ValueError(
            "training and test data must list the same classes; only in training: "
            f"{quoted(only_train) or 'none'}; only in test: {quoted(only_test) or 'none'}"
        )
    if (train.classes, train.category_ids) != (test.classes, test.category_ids):
        numbered = [
            dict(zip(dataset.category_ids, dataset.classes, strict=True)) for dataset in (train, test)
        ]
        raise ValueError(
            f"training and test data number the same classes differently: {numbered[0]} and {numbered[1]}"
        )
    if num_classes is not None and len(train.classes) > num_classes:
        raise ValueError(
            f"num_classes must be at least {len(train.classes)}, the number of classes in the data, got "
            f"{num_classes}"
        )
