"""Input images of trained classifiers, transformed as in evaluation and as pictures to draw on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torch import Tensor

from sasa.data import (
    FASHION_MNIST_CLASSES,
    ImageDataset,
    create_dataset,
    read_image,
)
from sasa.train.classification.held_out import check_held_out
from sasa.train.evaluation_data import EvaluationData, evaluation_data

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from sasa.train.classification.weights import WeightsMetadata


def load_images(
    paths: Sequence[str | Path], metadata: WeightsMetadata
) -> tuple[Tensor, npt.NDArray[np.float32]]:
    """Read image files and transform them as in evaluation.

    Args:
        paths: Image files of any size.
        metadata: Metadata of the classifier.

    Returns:
        The normalized images (B, C, H, W), and the same pixels in [0, 1], (B, H, W) or (B, H, W, 3).

    Raises:
        OSError: A file cannot be read; the error names it.
        sasa.data.BrokenImageError: A file cannot be decoded; the error names it.
    """
    return _transform([read_image(path, metadata.input_size[0]) for path in paths], metadata)


def test_images_of(metadata: WeightsMetadata) -> tuple[ImageDataset, EvaluationData]:
    """The test images of the data that a classifier was trained on.

    If the weights have no recipe, these are the built-in images, provided that the classes agree.

    Args:
        metadata: Metadata of the classifier.

    Returns:
        The images, without a transform, and which data they are.

    Raises:
        FileNotFoundError: The data do not exist.
        ValueError: The weights have no recipe, and other classes than the built-in images.
    """
    if metadata.recipe is None and metadata.classes != list(FASHION_MNIST_CLASSES):
        raise ValueError(
            "images: expected image files for weights without a recipe whose classes are not those of the "
            "built-in images, got none; give image files"
        )
    data = evaluation_data(
        metadata.recipe, None, "test", {}, default_source="fashion-mnist", advice="give image files"
    )
    skips = metadata.recipe is not None and metadata.recipe["data"]["on_broken"] == "skip"
    dataset = create_dataset(
        data.source,
        data.split,
        in_chans=metadata.input_size[0],
        on_broken="skip" if skips else "raise",
        **data.options,
    )
    check_held_out(metadata, data, dataset)
    assert isinstance(dataset, ImageDataset), "evaluation_data accepts files and folders only"
    return dataset, data


def first_image_per_class(
    metadata: WeightsMetadata, data: ImageDataset, count: int | None = None
) -> tuple[Tensor, npt.NDArray[np.float32], list[str]]:
    """The first image of each class.

    Args:
        metadata: Metadata of the classifier.
        data: Images without a transform.
        count: Number of classes, from the first; None means all.

    Returns:
        The images and pixels, as from `load_images`, and the names of the classes.
    """
    classes = list(data.classes)[:count]
    first = [data.targets.index(label) for label in range(len(classes))]
    images, pictures = _transform([data[index][0] for index in first], metadata)
    return images, pictures, classes


def _transform(
    images: Sequence[Image.Image], metadata: WeightsMetadata
) -> tuple[Tensor, npt.NDArray[np.float32]]:
    transform = metadata.create_transform()
    batch = torch.stack([transform(image) for image in images])
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (metadata.mean, metadata.std))
    pixels = (batch * std + mean).clamp(0, 1).movedim(1, -1)
    return batch, (pixels[..., 0] if metadata.input_size[0] == 1 else pixels).numpy()
