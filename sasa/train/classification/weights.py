"""The trained weights of classifiers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor, nn

import sasa
from sasa.data import evaluation_transform
from sasa.errors import require
from sasa.models import SASAResNet, checkpoint_filter_fn
from sasa.models.options import network_options
from sasa.train.state_dicts import without_prefixes
from sasa.train.weights import check_shapes, load_network, read_initial_weights, weights_path

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class WeightsMetadata:
    """The metadata of a classifier's weights file.

    Attributes:
        model: Name of the network, for sasa.create_model.
        options: Options for sasa.create_model that build the network. Those that choose its initial weights,
            such as pretrained, are left out, see `sasa.models.options.network_options`.
        classes: Names of the classes, by index.
        input_size: (C, H, W) of the training images.
        mean: Mean of each channel, for pixels in [0, 1].
        std: Standard deviation of each channel.
        crop_pct: Argument of evaluation_transform.
        interpolation: Argument of evaluation_transform.
        accuracy: Top-1 accuracy on the test images, in [0, 1]; None if not evaluated.
        recipe: Configuration of the training run, as in config.yaml; None if it was not trained by sasa.
        held_out: Fingerprint of the names of the test images, if data.test_fraction held them out.
        sasa_version: Version of sasa that wrote the file.

    Raises:
        ValueError: A size is not positive, or mean or std have not one number per channel.
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
    held_out: dict[str, Any] | None = None
    sasa_version: str = field(default=sasa.__version__)

    def __post_init__(self) -> None:
        size = self.input_size
        require(len(size) == 3 and min(size) > 0, "input_size", "positive C, H and W", size)
        for name, values in (("mean", self.mean), ("std", self.std)):
            require(len(values) == size[0], name, f"a number for each of the {size[0]} channels", values)
        object.__setattr__(self, "options", network_options(self.options))

    def create_model(self) -> nn.Module:
        """The network, with new weights; nothing is downloaded, and no file is opened."""
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
        path: As for load_weights; or a state dict of another tool, a safetensors file or one of torch.save,
            also within a wrapper such as "state_dict", and with the prefixes "module.", "_orig_mod." and
            "model.".
        network: A network with timm's interface. For one of sasa, weights of torchvision's or timm's
            ResNet-50 are renamed.
        classes: Classes of the data. If the file has others, or a classifier layer of another shape, that
            layer of the network stays as it is. The log says so.

    Raises:
        FileNotFoundError: As for load_weights.
        ValueError: As for load_weights, or the file refers to code, which is not run.
    """
    state, metadata = read_initial_weights(path, WeightsMetadata)
    path, ours = weights_path(path), network.state_dict()
    state = without_prefixes(state, ours)
    if isinstance(network, SASAResNet):
        state = checkpoint_filter_fn(state)
    classifier = network.get_classifier()  # type: ignore[operator]
    head = next(name for name, module in network.named_modules() if module is classifier)
    fresh = {name: value for name, value in ours.items() if name.startswith(f"{head}.")}
    if metadata is None:
        about, differ = "it does not name its classes", not _fit(state, fresh)
    else:
        about = f"its {len(metadata.classes)} classes are not the {len(classes)} of the data"
        differ = metadata.classes != classes
    if differ:
        _logger.info("%s: %s; the classifier layer %r is initialized anew", path, about, head)
        state = {**state, **fresh}
    elif metadata is None:
        _logger.info("%s: %s; its classifier layer fits and is kept", path, about)
    check_shapes(network, state, path)
    network.load_state_dict(state)


def _fit(state: Mapping[str, Tensor], part: Mapping[str, Tensor]) -> bool:
    """Whether the state has all tensors of a part of a network, with their shapes."""
    return all(name in state and state[name].shape == value.shape for name, value in part.items())
