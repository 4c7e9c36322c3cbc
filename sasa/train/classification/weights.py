"""The trained weights of classifiers."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor, nn

import sasa
from sasa.data import evaluation_transform
from sasa.train.weights import check_shapes, load_network, read_weights, weights_path

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class WeightsMetadata:
    """The metadata of a classifier's weights file.

    Attributes:
        model: Name of the network, for sasa.create_model.
        options: Options for sasa.create_model.
        classes: Names of the classes, by index.
        input_size: (C, H, W) of the training images.
        mean: Mean of each channel, for pixels in [0, 1].
        std: Standard deviation of each channel.
        crop_pct: Argument of evaluation_transform.
        interpolation: Argument of evaluation_transform.
        accuracy: Top-1 accuracy on the test images, in [0, 1]; None if not evaluated.
        recipe: Configuration of the training run, as in config.yaml; None if it was not trained by sasa.
        sasa_version: Version of sasa that wrote the file.
    """

    model: str
    options: dict[str, Any]
    classes: list[str]
    input_size: list[int]
    mean: list[float]
    std: list[float]
    crop_pct: float | None = None
    interpolation: str = "bilinear"
    accuracy: float | None = None
    recipe: dict[str, Any] | None = None
    sasa_version: str = field(default=sasa.__version__)

    def create_model(self) -> nn.Module:
        """The network, with new weights."""
        return sasa.create_model(
            self.model, num_classes=len(self.classes), in_chans=self.input_size[0], **self.options
        )

    def create_transform(self) -> Callable[[Image.Image], Tensor]:
        """The transform of evaluation, from an image to the network's input (C, H, W)."""
        channels, height, width = self.input_size
        return evaluation_transform(
            (channels, height, width),
            mean=self.mean,
            std=self.std,
            crop_pct=self.crop_pct,
            interpolation=self.interpolation,
        )


def load_weights(path: str | Path) -> tuple[nn.Module, WeightsMetadata]:
    """Load a classifier.

    Args:
        path: A run folder, a safetensors file of save_weights, or "built-in", the classifier that comes with
            sasa.

    Returns:
        The network, on the CPU and in evaluation mode, and its metadata.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged, was not written by sasa, or does not fit the network that it
            describes.
    """
    return load_network(path, WeightsMetadata)


def start_from(path: str | Path, network: nn.Module, classes: list[str]) -> None:
    """Load weights into a network that is about to be trained.

    Args:
        path: As for load_weights.
        network: A network with timm's interface.
        classes: Classes of the data. If the file has others, the classifier layer of the network stays as it
            is, with a message in the log.

    Raises:
        FileNotFoundError: As for load_weights.
        ValueError: As for load_weights.
    """
    state, metadata = read_weights(path, WeightsMetadata)
    fresh: set[str] = set()
    if metadata.classes != classes:
        classifier = network.get_classifier()  # type: ignore[operator]
        head = next(name for name, module in network.named_modules() if module is classifier)
        fresh = {name for name in network.state_dict() if name.startswith(f"{head}.")}
        _logger.info(
            "%s: its %d classes are not the %d of the data; the classifier layer %r is initialized anew",
            weights_path(path),
            len(metadata.classes),
            len(classes),
            head,
        )
        state = {**state, **{name: network.state_dict()[name] for name in fresh}}
    check_shapes(network, state, weights_path(path))
    network.load_state_dict(state)
