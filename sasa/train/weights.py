"""Trained weights as safetensors, with all that is needed to use them again."""

from __future__ import annotations

import dataclasses
import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

import sasa
from sasa.train.atomic import replacing

WEIGHTS_FILE = "model.safetensors"
"""Name of the weights in a run folder."""
BUILT_IN = "built-in"
"""Stands for BUILT_IN_WEIGHTS where weights are asked for."""
BUILT_IN_WEIGHTS = Path(__file__).with_name("sasa_resnet26_fashion_mnist.safetensors")
"""The classifier of the built-in images that comes with sasa, trained by recipes/built_in.yaml."""

_logger = logging.getLogger(__name__)


class Metadata(Protocol):
    """A dataclass of values that JSON can hold, from which a network can be made."""

    def create_model(self) -> nn.Module:
        """The network, with weights yet to load."""


AnyMetadata = TypeVar("AnyMetadata", bound=Metadata)


@dataclass(frozen=True)
class WeightsMetadata:
    """What a classifier's weights file says about itself.

    Attributes:
        model: the network's name, for sasa.create_model.
        options: its further options.
        classes: index → class name.
        input_size: (C, H, W) of the images it was trained on.
        mean: of each channel, for pixels in [0, 1].
        std: of each channel.
        crop_pct: of evaluation_transform.
        interpolation: of evaluation_transform.
        accuracy: top-1 on the test images, in [0, 1]; None if not evaluated.
        recipe: the configuration it was trained by, seed included, as in config.yaml; None if not by sasa.
        sasa_version: that wrote the file.
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
        """The network, with weights yet to load."""
        return sasa.create_model(
            self.model, num_classes=len(self.classes), in_chans=self.input_size[0], **self.options
        )


def save_weights(path: str | Path, network: nn.Module, metadata: Metadata) -> None:
    """Write a network's parameters and buffers to a safetensors file."""
    about: Any = metadata
    state = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    texts = {key: json.dumps(value) for key, value in dataclasses.asdict(about).items()}
    with replacing(Path(path)) as temporary:
        save_file(state, temporary, metadata=texts)


def load_weights(path: str | Path) -> tuple[nn.Module, WeightsMetadata]:
    """Make the classifier that a weights file holds.

    Args:
        path: a file of save_weights, a run folder with one, or "built-in", the classifier that comes with
            sasa.

    Returns:
        The network, on the CPU and in evaluation mode, and the file's metadata.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, not one of ours, or does not fit the network it names.
    """
    return load_any_weights(path, WeightsMetadata)


def load_any_weights(path: str | Path, kind: type[AnyMetadata]) -> tuple[nn.Module, AnyMetadata]:
    """What load_weights does, for the network of any kind of metadata."""
    state, metadata = read_weights(path, kind)
    network = metadata.create_model()
    check_shapes(network, state, weights_path(path))
    network.load_state_dict(state)
    return network.eval(), metadata


def start_from(path: str | Path, network: nn.Module, classes: list[str]) -> None:
    """Load a weights file into a network that is about to be trained.

    Args:
        path: as in load_weights.
        network: the network, one of timm's kind.
        classes: the data's; if the file has others, the network's classifier stays as it is, with a log line.

    Raises:
        FileNotFoundError, ValueError: as in load_weights.
    """
    state, metadata = read_weights(path, WeightsMetadata)
    fresh: set[str] = set()
    if metadata.classes != classes:
        classifier = network.get_classifier()  # type: ignore[operator]
        head = next(name for name, module in network.named_modules() if module is classifier)
        fresh = {name for name in network.state_dict() if name.startswith(f"{head}.")}
        _logger.info(
            "%s: its %d classes are not the %d of the data; the classifier %r starts anew",
            weights_path(path),
            len(metadata.classes),
            len(classes),
            head,
        )
        state = {**state, **{name: network.state_dict()[name] for name in fresh}}
    check_shapes(network, state, weights_path(path))
    network.load_state_dict(state)


def weights_path(path: str | Path) -> Path:
    """The weights file itself, where a run folder or BUILT_IN was given."""
    if path == BUILT_IN:
        return BUILT_IN_WEIGHTS
    path = Path(path)
    return path / WEIGHTS_FILE if path.is_dir() else path


def read_weights(path: str | Path, kind: type[AnyMetadata]) -> tuple[dict[str, Tensor], AnyMetadata]:
    """Tensors by name and metadata of a weights file; raises as load_weights does."""
    fields: Any = kind
    path = weights_path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"no weights at {path}; give a .safetensors file or the folder of a finished run"
        )
    try:
        with safe_open(path, framework="pt") as file:
            texts = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path}: not a readable safetensors file: {error}") from error
    known = {item.name: item for item in dataclasses.fields(fields)}
    missing = sorted(
        name
        for name, item in known.items()
        if item.default is item.default_factory is dataclasses.MISSING and name not in texts
    )
    if missing:
        raise ValueError(
            f"{path}: its metadata lacks {', '.join(missing)}; expected a file written by sasa (save_weights)"
        )
    return state, kind(**{key: json.loads(texts[key]) for key in known.keys() & texts.keys()})


def check_shapes(network: nn.Module, state: dict[str, Tensor], where: str | Path) -> None:
    """Raise ValueError, in words, unless state has just the network's tensors, each of its shape."""
    expected = network.state_dict()
    faults = [f"{name} is missing" for name in expected.keys() - state.keys()]
    faults += [f"{name} is unknown" for name in state.keys() - expected.keys()]
    faults += [
        f"{name} is {tuple(state[name].shape)}, expected {tuple(expected[name].shape)}"
        for name in expected.keys() & state.keys()
        if state[name].shape != expected[name].shape
    ]
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise ValueError(
            f"{where}: does not fit {type(network).__name__}: {'; '.join(sorted(faults)[:3])}{more}"
        )


def require_same_classes(
    source: str | Path, classes: list[str], weights: str | Path, expected: list[str]
) -> None:
    """Raise ValueError, in words, unless the data's classes are those of the weights."""
    if classes != expected:
        raise ValueError(
            f"{source}: its {len(classes)} classes ({_few(classes)}) are not the "
            f"{len(expected)} of {weights} ({_few(expected)})"
        )


def _few(names: list[str]) -> str:
    return ", ".join(names[:4]) + (", …" if len(names) > 4 else "")
