"""Configurations read from YAML files and command lines, and written to files."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import json
import re
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jsonargparse
import yaml

from sasa.errors import did_you_mean, require
from sasa.train.atomic import replacing
from sasa.train.classification.config import TrainConfig
from sasa.train.config import RunConfig
from sasa.train.detection.config import DetectionConfig
from sasa.train.run_folder import CONFIG_FILE

Config = TypeVar("Config", bound=RunConfig)


def config_parser(kind: type[RunConfig]) -> jsonargparse.ArgumentParser:
    """The parser of a training command: --config FILE and an option for every key."""
    command = kind.command
    parser = jsonargparse.ArgumentParser(
        prog=command,
        usage=f"{command} [--config FILE.yaml] [--KEY VALUE ...]\n"
        f"       {command} --resume RUN [--accept_images]",
        description=f"Train {kind.trains}, or continue an interrupted run. Later options override earlier "
        "ones and the file.",
        exit_on_error=False,
    )
    parser.add_argument("--config", action="config", help="YAML file, such as those in recipes/")
    parser.add_class_arguments(kind, None)
    return parser


def parse_config(
    arguments: Sequence[str],
    kind: type[Config] = TrainConfig,  # type: ignore[assignment]
    base: Config | None = None,
    command: str | None = None,
) -> Config:
    """Parse command-line arguments: --config FILE and overrides such as --optimizer.lr 0.8.

    Args:
        arguments: The arguments.
        kind: TrainConfig or DetectionConfig.
        base: The configuration to override; None means the defaults.
        command: The command whose --help an error refers to; None means that of the kind.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A key is unknown (the most similar one is suggested), a value has the wrong type or is out
            of range, or a file is not YAML.
    """
    parser = config_parser(kind)
    own = {option for action in parser._actions for option in action.option_strings}
    files = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    files.add_argument("--config", action="append", default=[])
    try:
        known, rest = files.parse_known_args(list(arguments))
    except argparse.ArgumentError as error:
        raise ValueError(str(error)) from error
    for path in known.config:
        for key in _flatten(read_yaml(path), kind):
            _check_key(key, f"{path}: ", kind)
    for argument in rest:
        option = argument.partition("=")[0]
        if option.startswith("--") and option not in own:
            _check_key(option[2:], "--", kind, command)
    try:
        start = None if base is None else parser.parse_object(plain(base))
        return _instantiate(parser, parser.parse_args(list(arguments), start), kind)
    except argparse.ArgumentError as error:
        text = " ".join(str(error).split())
        without_space = re.search(r"Got value: \{.*\w:[^ ,}]", text)
        hint = "; YAML needs a space after the colon, as in {KEY: VALUE}" if without_space else ""
        raise ValueError(text + hint) from error


def config_from(content: Mapping[str, Any], where: str) -> TrainConfig:
    """A classifier's configuration from nested keys, as in a YAML file.

    Args:
        content: The keys.
        where: Where they come from, for error messages.

    Raises:
        ValueError: As for parse_config.
    """
    for key in _flatten(content, TrainConfig):
        _check_key(key, f"{where}: ", TrainConfig)
    parser = config_parser(TrainConfig)
    try:
        return _instantiate(parser, parser.parse_object(dict(content)), TrainConfig)
    except argparse.ArgumentError as error:
        raise ValueError(f"{where}: {' '.join(str(error).split())}") from error


def _instantiate(
    parser: jsonargparse.ArgumentParser, parsed: jsonargparse.Namespace, kind: type[Config]
) -> Config:
    fields = {name for name, _ in _fields(kind)}
    values = parser.instantiate(parsed)
    return kind(**{key: value for key, value in vars(values).items() if key in fields})


def load_config(
    path: str | Path,
    kind: type[Config] = TrainConfig,  # type: ignore[assignment]
) -> Config:
    """Read a configuration from a YAML file.

    Args:
        path: The file.
        kind: TrainConfig or DetectionConfig.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: As for parse_config.
    """
    return parse_config(["--config", str(path)], kind)


def config_kind(path: str | Path) -> type[TrainConfig] | type[DetectionConfig]:
    """Whether a YAML file configures a classifier or a detector: the kind that has more of its keys.

    Args:
        path: The file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not YAML.
    """
    content = read_yaml(path)
    unknown = {
        kind: sum(not _is_key(key, kind) for key in _flatten(content, kind))
        for kind in (TrainConfig, DetectionConfig)
    }
    return DetectionConfig if unknown[DetectionConfig] < unknown[TrainConfig] else TrainConfig


def save_config(config: RunConfig, path: str | Path) -> None:
    """Write the complete configuration, including defaults, as YAML.

    Args:
        config: The configuration.
        path: The file.
    """
    with replacing(Path(path)) as temporary:
        temporary.write_text(yaml.safe_dump(plain(config), sort_keys=False))


def plain(config: RunConfig) -> dict[str, Any]:
    """The complete configuration as nested dicts and lists with values of JSON's types."""
    content: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(typing.cast(Any, config))))
    return content


def leaves(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of nested mappings by their dotted keys."""
    values: dict[str, Any] = {}
    for key, value in content.items():
        values |= (
            leaves(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
        )
    return values


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a mapping from a YAML file.

    Args:
        path: The file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not YAML, or not a mapping.
    """
    try:
        content = yaml.safe_load(Path(path).read_text())
    except FileNotFoundError:
        raise FileNotFoundError(f"--config: expected a YAML file, got {path}, which does not exist") from None
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: expected YAML, got {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected keys such as 'model:' and 'data:', got {content!r}")
    # jsonargparse would import the class and call it.
    require("class_path" not in _all_keys(content), f"{path}", "no class_path, which names code", content)
    return content


def _all_keys(content: Any) -> set[str]:
    """The keys of all mappings within mappings and lists."""
    if isinstance(content, Mapping):
        return {str(key) for key in content}.union(*map(_all_keys, content.values()))
    return set().union(*map(_all_keys, content)) if isinstance(content, list) else set()


@dataclasses.dataclass(frozen=True)
class Resumption:
    """A run to resume; see sasa.train.resume."""

    folder: Path
    accept_images: bool = False


def parse_run(arguments: Sequence[str], kind: type[Config]) -> Config | Resumption:
    """Parse the arguments of a training command: --resume RUN, or those of parse_config.

    Args:
        arguments: The arguments.
        kind: TrainConfig or DetectionConfig.

    Returns:
        The configuration of a new run, or the run to resume.

    Raises:
        FileNotFoundError: There is no such file or run.
        ValueError: As for parse_config, or the run to resume is of another kind.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--resume", nargs="?", const="")
    parser.add_argument("--accept_images", action="store_true")
    known, rest = parser.parse_known_args(arguments)
    if known.resume is None:
        require(not known.accept_images, "--accept_images", "--resume RUN beside it", None)
        return parse_config(rest, kind)
    require(known.resume != "", "--resume", "a run folder", None, f"see {kind.command} --help")
    require(not rest, "--resume", "no further arguments, as the run has its configuration", " ".join(rest))
    folder = Path(known.resume)
    file = folder / CONFIG_FILE
    if file.is_file() and (other := config_kind(file)) is not kind:
        raise ValueError(
            f"--resume: expected a run of {kind.trains}, got one of {other.trains} in {folder}; "
            f"use {other.command}"
        )
    return Resumption(folder, known.accept_images)


def parse_key_values(options: Sequence[str], function: Callable[..., Any]) -> dict[str, Any]:
    """Parse KEY=VALUE pairs, with values in YAML, into keyword arguments of a function.

    Args:
        options: The pairs.
        function: A function that takes any keyword arguments; keys must not be the names of its parameters.

    Raises:
        ValueError: A pair has no "=", or its key is a parameter of the function.
    """
    values = {}
    for option in options:
        key, equals, value = option.partition("=")
        require(bool(key and equals), "--option", "KEY=VALUE", option)
        named = key in inspect.signature(function).parameters
        require(
            not named, "--option", "an option of the data", key, "see --help for the options of the command"
        )
        values[key] = yaml.safe_load(value)
    return values


def _fields(group: type) -> Iterator[tuple[str, Any]]:
    """Names and types of the fields of a dataclass."""
    hints = typing.get_type_hints(group)
    return ((field.name, hints[field.name]) for field in dataclasses.fields(group))


def _keys(group: type, prefix: str = "") -> Iterator[tuple[str, bool]]:
    """Dotted keys of a dataclass, each with whether it is a mapping that accepts any further key."""
    for name, kind in _fields(group):
        if dataclasses.is_dataclass(kind):
            yield from _keys(typing.cast(type, kind), f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", typing.get_origin(kind) is dict


def _flatten(content: Mapping[str, Any], group: type, prefix: str = "") -> Iterator[str]:
    """Dotted keys of a nested mapping, to the depth of the dataclass."""
    kinds = dict(_fields(group))
    for name, value in content.items():
        kind = kinds.get(str(name))
        if dataclasses.is_dataclass(kind) and isinstance(value, dict):
            yield from _flatten(value, typing.cast(type, kind), f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _sections(kind: type[RunConfig]) -> set[str]:
    return {name.rpartition(".")[0] for name, _ in _keys(kind)} - {""}


def _is_key(key: str, kind: type[RunConfig]) -> bool:
    known = dict(_keys(kind))
    below_mapping = any(key.startswith(f"{name}.") for name, is_mapping in known.items() if is_mapping)
    return key in known or key in _sections(kind) or below_mapping


def _check_key(key: str, where: str, kind: type[RunConfig], command: str | None = None) -> None:
    """Raise ValueError for an unknown key."""
    if _is_key(key, kind):
        return
    known = [name for name, _ in _keys(kind)]
    # A key without its section, or in another one, is more likely than a similar name.
    last = key.rpartition(".")[2].replace("-", "_")
    same = [name for name in known if name.rpartition(".")[2] == last]
    help_of = f"see {command or kind.command} --help"
    hint = did_you_mean((same or [key])[0], [*known, *_sections(kind)], otherwise=help_of, cutoff=0.5)
    raise ValueError(f"{where}{key}: unknown key{hint}")
