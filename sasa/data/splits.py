"""Hold out a part of the training images for validation."""

from __future__ import annotations

import random
from collections import defaultdict

from sasa.data.datasets import ImageDataset, Transform


def train_val_split(
    dataset: ImageDataset,
    fraction: float = 0.04,
    seed: int = 0,
    *,
    val_transform: Transform | None = None,
) -> tuple[ImageDataset, ImageDataset]:
    """Split training data into a part to train on and a part to validate on, class by class.

    Of each class, round(fraction · images) are held out, at least one. The choice depends on the
    labels and the seed alone. Both parts keep the order of the data set.

    Args:
        dataset: the training data; its transform stays with the training part.
        fraction: the share held out, 0 < fraction < 1.
        seed: which images are held out.
        val_transform: the validation part's transform, normally the evaluation transform;
            None gives PIL images, never the training augmentation.

    Returns:
        (training part, validation part): disjoint, together the whole data set.

    Raises:
        ValueError: fraction is out of range, or a class has too few images for both parts.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction must lie between 0 and 1, both excluded, got {fraction!r}")
    by_class: dict[int, list[int]] = defaultdict(list)
    for position, label in enumerate(dataset.targets):
        by_class[label].append(position)
    generator = random.Random(seed)
    held: set[int] = set()
    for label in sorted(by_class):
        positions = by_class[label]
        count = max(1, round(fraction * len(positions)))
        if count >= len(positions):
            raise ValueError(
                f"class {dataset.classes[label]!r} has {len(positions)} image(s), too few to hold "
                f"out {count} and train on the rest; add images or give a validation split"
            )
        held.update(generator.sample(positions, count))
    training = [position for position in range(len(dataset)) if position not in held]
    return (
        dataset.select(training, dataset.transform),
        dataset.select(sorted(held), val_transform),
    )
