"""Images held out class by class: for validation, and for testing if the data have no test images."""

from __future__ import annotations

import random
from collections import defaultdict

from sasa.data.datasets import ImageDataset, Transform
from sasa.errors import require


def train_val_split(
    dataset: ImageDataset,
    val_fraction: float = 0.04,
    seed: int = 0,
    *,
    val_transform: Transform | None = None,
) -> tuple[ImageDataset, ImageDataset]:
    """Split training data into a training and a validation part, class by class.

    The validation part has round(val_fraction · images) images of each class, at least one. The choice
    depends only on the labels and the seed. Both parts keep the order of the data set.

    Args:
        dataset: The training data; its transform stays with the training part.
        val_fraction: The share of the validation part, 0 < val_fraction < 1.
        seed: The seed of the choice.
        val_transform: The transform of the validation part, normally the evaluation transform; None gives PIL
            images, never the training augmentation.

    Returns:
        The training part and the validation part: disjoint, and together the whole data set.

    Raises:
        ValueError: val_fraction is out of range, or a class has too few images for both parts.
    """
    advice = "add images or give a validation split"
    training, validation = _hold_out(dataset, "val_fraction", val_fraction, seed, advice)
    return dataset.select(training, dataset.transform), dataset.select(validation, val_transform)


def train_test_split(
    dataset: ImageDataset, test_fraction: float, seed: int = 0
) -> tuple[ImageDataset, ImageDataset]:
    """Split images without a division into a training and a test part, class by class.

    Args:
        dataset: The images; both parts keep its transform.
        test_fraction: The share of the test part, 0 < test_fraction < 1; as in `train_val_split`.
        seed: The seed of the choice.

    Returns:
        The training part and the test part: disjoint, and together the whole data set.

    Raises:
        ValueError: test_fraction is out of range, or a class has too few images for both parts.
    """
    training, test = _hold_out(dataset, "test_fraction", test_fraction, seed, "add images")
    return dataset.select(training, dataset.transform), dataset.select(test, dataset.transform)


def _hold_out(
    dataset: ImageDataset, name: str, fraction: float, seed: int, advice: str
) -> tuple[list[int], list[int]]:
    """The positions that remain and those that are held out, both in order."""
    require(0 < fraction < 1, name, "a number in (0, 1)", fraction)
    by_class: dict[int, list[int]] = defaultdict(list)
    for position, label in enumerate(dataset.targets):
        by_class[label].append(position)
    generator = random.Random(seed)
    chosen: set[int] = set()
    for label in sorted(by_class):
        positions = by_class[label]
        count = max(1, round(fraction * len(positions)))
        if count >= len(positions):
            raise ValueError(
                f"{name}: expected more than {count} image(s) of class {dataset.classes[label]!r} in "
                f"{dataset.location} to hold out {fraction:g} of them, got {len(positions)}; {advice}"
            )
        chosen.update(generator.sample(positions, count))
    return [position for position in range(len(dataset)) if position not in chosen], sorted(chosen)
