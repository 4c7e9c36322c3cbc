"""Trained weights as safetensors files, with the metadata needed to use them."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from sasa.train.atomic import replacing
from sasa.train.file_kinds import LIGHTNING, SAFETENSORS, STATE_DICT, file_kind
from sasa.train.run_folder import WEIGHTS_FILE
from sasa.train.state_dicts import COMPILED_PREFIX, unwrap_network, unwrap_state_dict, without_prefixes
from sasa.train.torch_files import load_torch_file

BUILT_IN = "built-in"
"""The name of BUILT_IN_WEIGHTS for all that takes weights."""
BUILT_IN_WEIGHTS = Path(__file__).with_name("sasa_resnet26_fashion_mnist.safetensors")
"""The classifier that comes with sasa, trained on the built-in images with recipes/built_in.yaml."""


class Metadata(Protocol):
    """A dataclass with values of JSON's types that describes a network.

    Its values come from files, so they must not lead to a download or to another file.
    """

    def create_model(self) -> nn.Module:
        """The network, with new weights."""


# What networks raise for options that do not build one.
_UNBUILDABLE = (
    TypeError,
    ValueError,
    RuntimeError,
    LookupError,
    AttributeError,
    AssertionError,
    ArithmeticError,
)

AnyMetadata = TypeVar("AnyMetadata", bound=Metadata)


def save_weights(path: str | Path, network: nn.Module, metadata: Metadata) -> None:
    """Write the parameters and buffers of a network to a safetensors file.

    Args:
        path: The file.
        network: The network. Within torch.compile, DataParallel or a moving average, its own names are
            written.
        metadata: What is needed to build the network and to use it.
    """
    own = unwrap_network(network).state_dict()
    state = {
        name.replace(COMPILED_PREFIX, ""): value.detach().cpu().contiguous() for name, value in own.items()
    }
    write_weights(path, state, metadata)


def write_weights(path: str | Path, state: dict[str, Tensor], metadata: Metadata) -> None:
    """Write tensors by name, and metadata, to a safetensors file."""
    with replacing(Path(path)) as temporary:
        save_file(state, temporary, metadata=metadata_texts(metadata))


def metadata_texts(metadata: Metadata) -> dict[str, str]:
    """Each field's value as JSON, as weights files and exported files contain them."""
    about: Any = metadata
    return {key: json.dumps(value) for key, value in dataclasses.asdict(about).items()}


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
            not fit the network that it describes, or describes none.
    """
    state, metadata = read_weights(path, kind)
    network = create_described(metadata, path)
    state = without_prefixes(state, network.state_dict())
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
    path = _existing(path)
    file = file_kind(path)
    if file in (STATE_DICT, LIGHTNING):
        load_torch_file(path, "a safetensors file written by sasa")  # raises if it refers to code
        raise ValueError(
            f"{path}: expected a safetensors file written by sasa, got {file}, which does not say for which "
            "network and classes it is; start a training from it (model.weights)"
        )
    if file != SAFETENSORS:
        raise ValueError(f"{path}: expected a safetensors file, got {file}")
    state, texts = _read_safetensors(path)
    return state, parse_metadata(texts, kind, path)


def read_metadata(path: str | Path) -> dict[str, str]:
    """The metadata of a safetensors file as written, a text in JSON for each field; see load_network."""
    path = _existing(path)
    if (kind := file_kind(path)) != SAFETENSORS:
        raise ValueError(f"{path}: expected a safetensors file, got {kind}")
    return _read_safetensors(path)[1]


def read_initial_weights(
    path: str | Path, kind: type[AnyMetadata]
) -> tuple[dict[str, Tensor], AnyMetadata | None]:
    """The tensors by name of a weights file, or of a state dict of others, and the metadata if it has them.

    Args:
        path: A safetensors file, a file of torch.save, a run folder, or "built-in".
        kind: The type of the metadata.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is of another kind or damaged, holds something else than tensors, or refers to
            code, which is not run.
    """
    path = _existing(path)
    if file_kind(path) != SAFETENSORS:
        return unwrap_state_dict(load_torch_file(path, "weights"), path), None
    state, texts = _read_safetensors(path)
    return state, parse_metadata(texts, kind, path) if _required(kind) <= texts.keys() else None


def create_described(metadata: AnyMetadata, path: str | Path) -> Any:
    """The network that the metadata of a weights file describe, with new weights.

    Raises:
        ValueError: They describe none; the error names the file.
    """
    try:
        return metadata.create_model()
    except _UNBUILDABLE as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"{weights_path(path)}: its metadata describe no network: {reason}") from error


def _existing(path: str | Path) -> Path:
    path = weights_path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"run: expected a safetensors file or the folder of a finished run, got {path}"
        )
    return path


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            texts = file.metadata() or {}
            return {name: file.get_tensor(name) for name in file.keys()}, texts  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path}: expected a safetensors file, got {error}") from error


def _required(kind: type[Metadata]) -> set[str]:
    fields: Any = kind
    return {
        item.name
        for item in dataclasses.fields(fields)
        if item.default is item.default_factory is dataclasses.MISSING
    }


def parse_metadata(texts: Mapping[str, str], kind: type[AnyMetadata], path: Path) -> AnyMetadata:
    """The metadata in the texts of a file.

    Raises:
        ValueError: A required one is missing, or one has another type; the error names the file.
    """
    if missing := sorted(_required(kind) - texts.keys()):
        raise ValueError(
            f"{path}: expected metadata of {kind.__name__}, got none of {', '.join(missing)}; give a file "
            "written by sasa"
        )
    types_of = typing.get_type_hints(kind)
    values = {}
    for name in types_of.keys() & texts.keys():
        try:
            values[name] = json.loads(texts[name])
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}: metadata {name}: expected JSON, got {texts[name][:60]!r}") from error
        if not _is_of_type(values[name], types_of[name]):
            raise ValueError(f"{path}: metadata {name}: expected {types_of[name]}, got {texts[name][:60]}")
    try:
        return kind(**values)
    except ValueError as error:
        raise ValueError(f"{path}: metadata {error}") from error


def _is_of_type(value: Any, expected: Any) -> bool:
    """Whether a value of JSON is of a type such as list[float] or dict[str, Any] | None."""
    origin, parts = typing.get_origin(expected), typing.get_args(expected)
    if expected is Any:
        return True
    if origin is types.UnionType:
        return any(_is_of_type(value, part) for part in parts)
    if origin is list:
        return isinstance(value, list) and all(_is_of_type(item, parts[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(_is_of_type(item, parts[1]) for item in value.values())
    return type(value) is expected or (expected is float and type(value) is int)


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
