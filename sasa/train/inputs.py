"""Images as trained weights want to see them, and as pictures to draw on."""

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
    evaluation_transform,
    read_image,
)
from sasa.train.evaluation_data import EvaluationData, evaluation_data

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from sasa.train.weights import WeightsMetadata


def load_images(
    paths: Sequence[str | Path], metadata: WeightsMetadata
) -> tuple[Tensor, npt.NDArray[np.float32]]:
    """Read image files and transform them as in evaluation.

    Args:
        paths: Image files of any size.
        metadata: Of the weights that will see them.

    Returns:
        The normalized images (B, C, H, W), and the same pixels in [0, 1], (B, H, W) or (B, H, W, 3).

    Raises:
        OSError, sasa.data.BrokenImageError: A file cannot be read; the error names it.
    """
    return _transform([read_image(path, metadata.input_size[0]) for path in paths], metadata)


def test_images_of(metadata: WeightsMetadata) -> tuple[ImageDataset, EvaluationData]:
    """The test images of the data that weights were trained on, without a transform, and which these are.

    The built-in images where the weights do not say and their classes are those.

    Args:
        metadata: Of the weights.

    Raises:
        FileNotFoundError: The data are not here.
        ValueError: The weights do not say what they were trained on, and have other classes than the built-in
            images.
    """
    if metadata.recipe is None and metadata.classes != list(FASHION_MNIST_CLASSES):
        raise ValueError(
            "images: the weights do not say what they were trained on, and have other classes than the "
            "built-in images; give image files"
        )
    data = evaluation_data(
        metadata.recipe, None, "test", {}, built_in="fashion-mnist", otherwise="give image files"
    )
    skips = metadata.recipe is not None and metadata.recipe["data"]["on_broken"] == "skip"
    dataset = create_dataset(
        data.source,
        data.split,
        in_chans=metadata.input_size[0],
        on_broken="skip" if skips else "raise",
        **data.options,
    )
    assert isinstance(dataset, ImageDataset), "a recipe's streams are not followed"
    return dataset, data


def first_image_per_class(
    metadata: WeightsMetadata, data: ImageDataset, count: int | None = None
) -> tuple[Tensor, npt.NDArray[np.float32], list[str]]:
    """The first image of each class, as `load_images` gives them, and the classes.

    Args:
        metadata: Of the weights that will see them.
        data: Images without a transform.
        count: Classes, the first of them; all where None.
    """
    classes = list(data.classes)[:count]
    first = [data.targets.index(label) for label in range(len(classes))]
    images, pictures = _transform([data[index][0] for index in first], metadata)
    return images, pictures, classes


def _transform(
    images: Sequence[Image.Image], metadata: WeightsMetadata
) -> tuple[Tensor, npt.NDArray[np.float32]]:
    channels, height, width = metadata.input_size
    transform = evaluation_transform(
        (channels, height, width),
        mean=metadata.mean,
        std=metadata.std,
        crop_pct=metadata.crop_pct,
        interpolation=metadata.interpolation,
    )
    batch = torch.stack([transform(image) for image in images])
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (metadata.mean, metadata.std))
    pixels = (batch * std + mean).clamp(0, 1).movedim(1, -1)
    return batch, (pixels[..., 0] if channels == 1 else pixels).numpy()
