"""Checks of detection data sets against each other and the model, before the first training step."""

from __future__ import annotations

from sasa.data.checks import check_not_empty, check_numbering
from sasa.data.detection.datasets import DetectionDataset


def check_categories(train: DetectionDataset, test: DetectionDataset, num_classes: int | None = None) -> None:
    """Check that training and test data have the same classes under the same numbers, and objects.

    Args:
        train: The training data.
        test: The data for evaluation.
        num_classes: The number of the model's classes; None means len(train.classes).

    Raises:
        ValueError: There are no images, no objects other than crowds, a class is in one data set only, the
            classes have other numbers, or there are more than num_classes.
    """
    for part, dataset in (("training", train), ("test", test)):
        check_not_empty(dataset, f"{part} images", dataset.location)
        if all(dataset.objects(index).crowds.all() for index in range(len(dataset))):
            raise ValueError(f"{dataset.location}: expected {part} objects, got none")
    check_numbering(
        dict(zip(train.category_ids, train.classes, strict=True)),
        dict(zip(test.category_ids, test.classes, strict=True)),
        num_classes,
    )
