"""The split of training images into a training and a validation part."""

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
    require(0 < val_fraction < 1, "val_fraction", "a number in (0, 1)", val_fraction)
    by_class: dict[int, list[int]] = defaultdict(list)
    for position, label in enumerate(dataset.targets):
        by_class[label].append(position)
    generator = random.Random(seed)
    chosen: set[int] = set()
    for label in sorted(by_class):
        positions = by_class[label]
        count = max(1, round(val_fraction * len(positions)))
        if count >= len(positions):
            raise ValueError(
                f"dataset: expected more than {count} image(s) of class {dataset.classes[label]!r} for a "
                f"training and a validation part, got {len(positions)}; add images or give a validation split"
            )
        chosen.update(generator.sample(positions, count))
    training = [position for position in range(len(dataset)) if position not in chosen]
    return (
        dataset.select(training, dataset.transform),
        dataset.select(sorted(chosen), val_transform),
    )
