"""Trained weights as safetensors files, with the metadata needed to use them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, Protocol, TypeVar

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from sasa.train.atomic import replacing
from sasa.train.run_folder import WEIGHTS_FILE

BUILT_IN = "built-in"
"""The name of BUILT_IN_WEIGHTS for all that takes weights."""
BUILT_IN_WEIGHTS = Path(__file__).with_name("sasa_resnet26_fashion_mnist.safetensors")
"""The classifier that comes with sasa, trained on the built-in images with recipes/built_in.yaml."""


class Metadata(Protocol):
    """A dataclass with values of JSON's types that describes a network."""

    def create_model(self) -> nn.Module:
        """The network, with new weights."""


AnyMetadata = TypeVar("AnyMetadata", bound=Metadata)


def save_weights(path: str | Path, network: nn.Module, metadata: Metadata) -> None:
    """Write the parameters and buffers of a network to a safetensors file.

    Args:
        path: The file.
        network: The network.
        metadata: What is needed to build the network and to use it.
    """
    about: Any = metadata
    state = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    texts = {key: json.dumps(value) for key, value in dataclasses.asdict(about).items()}
    with replacing(Path(path)) as temporary:
        save_file(state, temporary, metadata=texts)


def load_network(path: str | Path, kind: type[AnyMetadata]) -> tuple[nn.Module, AnyMetadata]:
    """Build the network that a weights file describes, and load its weights.

    Args:
        path: A safetensors file, a run folder, or "built-in".
        kind: The type of the metadata.

    Returns:
        The network, on the CPU and in evaluation mode, and the metadata.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged, was not written by save_weights with this type of metadata, or does
            not fit the network that it describes.
    """
    state, metadata = read_weights(path, kind)
    network = metadata.create_model()
    check_shapes(network, state, weights_path(path))
    network.load_state_dict(state)
    return network.eval(), metadata


def weights_path(path: str | Path) -> Path:
    """The weights file of a run folder or of BUILT_IN; other paths are returned as they are."""
    if path == BUILT_IN:
        return BUILT_IN_WEIGHTS
    path = Path(path)
    return path / WEIGHTS_FILE if path.is_dir() else path


def read_weights(path: str | Path, kind: type[AnyMetadata]) -> tuple[dict[str, Tensor], AnyMetadata]:
    """The tensors by name, and the metadata, of a weights file; see load_network."""
    fields: Any = kind
    path = weights_path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"run: expected a safetensors file or the folder of a finished run, got {path}"
        )
    try:
        with safe_open(path, framework="pt") as file:
            texts = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path}: expected a safetensors file, got {error}") from error
    known = {item.name: item for item in dataclasses.fields(fields)}
    missing = sorted(
        name
        for name, item in known.items()
        if item.default is item.default_factory is dataclasses.MISSING and name not in texts
    )
    if missing:
        raise ValueError(
            f"{path}: expected metadata of {kind.__name__}, got none of {', '.join(missing)}; give a file "
            "written by sasa.train.save_weights"
        )
    return state, kind(**{key: json.loads(texts[key]) for key in known.keys() & texts.keys()})


def check_shapes(network: nn.Module, state: dict[str, Tensor], where: str | Path) -> None:
    """Raise ValueError unless state has exactly the tensors of the network, with the same shapes."""
    expected = network.state_dict()
    faults = [f"{name} is missing" for name in expected.keys() - state.keys()]
    faults += [f"{name} is unknown" for name in state.keys() - expected.keys()]
    faults += [
        f"{name}: expected {tuple(expected[name].shape)}, got {tuple(state[name].shape)}"
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
    """Raise ValueError unless the classes of the data are those of the weights."""
    if classes != expected:
        theirs, ours = (
            f"{len(names)} classes ({', '.join(names[:4])}{', …' if len(names) > 4 else ''})"
            for names in (classes, expected)
        )
        raise ValueError(f"{source}: expected the {ours} of {weights}, got {theirs}")
