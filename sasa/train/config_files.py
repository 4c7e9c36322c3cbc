"""Configurations from YAML files and command lines, and back."""

from __future__ import annotations

import argparse
import dataclasses
import json
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jsonargparse
import yaml

from sasa.errors import did_you_mean
from sasa.train.atomic import replacing
from sasa.train.config import RunConfig, TrainConfig

Config = TypeVar("Config", bound=RunConfig)


def config_parser(kind: type[RunConfig]) -> jsonargparse.ArgumentParser:
    """The parser of a command that trains: --config FILE and an option for every field of kind."""
    command = kind.command
    parser = jsonargparse.ArgumentParser(
        prog=command,
        usage=f"{command} [--config FILE.yaml] [--KEY VALUE ...]\n       {command} --resume RUN",
        description=f"Train {kind.trains}, or go on with a run that stopped. Later options override earlier "
        "ones and the file's.",
        exit_on_error=False,
    )
    parser.add_argument("--config", action="config", help="YAML file, see recipes/")
    parser.add_class_arguments(kind, None)
    return parser


def parse_config(
    arguments: Sequence[str],
    kind: type[Config] = TrainConfig,  # type: ignore[assignment]
    base: Config | None = None,
    command: str | None = None,
) -> Config:
    """A configuration from command-line arguments: --config FILE and overrides such as --optimizer.lr 0.8.

    Args:
        arguments: the arguments.
        kind: TrainConfig or DetectionConfig.
        base: what holds where they say nothing; None means the defaults.
        command: whose --help an error points to; None means kind's.

    Raises:
        ValueError: an unknown key (the nearest is suggested), a value of the wrong type or out of range, or a
            file that is not YAML.
        FileNotFoundError: no such file.
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
        raise ValueError(" ".join(str(error).split())) from error


def config_from(content: Mapping[str, Any], where: str) -> TrainConfig:
    """A classifier's configuration from nested keys, as a YAML file has them; where names them in errors.

    Raises:
        ValueError: as parse_config.
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
    fields = {name for name, _ in _groups(kind)}
    values = parser.instantiate(parsed)
    return kind(**{key: value for key, value in vars(values).items() if key in fields})


def load_config(
    path: str | Path,
    kind: type[Config] = TrainConfig,  # type: ignore[assignment]
) -> Config:
    """The configuration in a YAML file; arguments and errors are those of parse_config."""
    return parse_config(["--config", str(path)], kind)


def save_config(config: RunConfig, path: str | Path) -> None:
    """Write the whole configuration, defaults included, as YAML."""
    with replacing(Path(path)) as temporary:
        temporary.write_text(yaml.safe_dump(plain(config), sort_keys=False))


def plain(config: RunConfig) -> dict[str, Any]:
    """The whole configuration as nested mappings and lists, as YAML and JSON have them."""
    content: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(typing.cast(Any, config))))
    return content


def leaves(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """What nested mappings hold, under dotted keys."""
    found: dict[str, Any] = {}
    for key, value in content.items():
        found |= leaves(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML file; raises FileNotFoundError, or ValueError where there is none."""
    try:
        content = yaml.safe_load(Path(path).read_text())
    except FileNotFoundError:
        raise FileNotFoundError(f"--config: no such file: {path}") from None
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected keys such as 'model:' and 'data:', got {content!r}")
    return content


def _groups(group: type) -> Iterator[tuple[str, Any]]:
    """Names and types of a dataclass's fields."""
    hints = typing.get_type_hints(group)
    return ((field.name, hints[field.name]) for field in dataclasses.fields(group))


def _keys(group: type, prefix: str = "") -> Iterator[tuple[str, bool]]:
    """Dotted keys below a dataclass, each with whether it is a mapping that takes any further key."""
    for name, kind in _groups(group):
        if dataclasses.is_dataclass(kind):
            yield from _keys(typing.cast(type, kind), f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", typing.get_origin(kind) is dict


def _flatten(content: Mapping[str, Any], group: type, prefix: str = "") -> Iterator[str]:
    """Dotted keys of a nested mapping, as deep as the dataclass goes."""
    kinds = dict(_groups(group))
    for name, value in content.items():
        kind = kinds.get(str(name))
        if dataclasses.is_dataclass(kind) and isinstance(value, dict):
            yield from _flatten(value, typing.cast(type, kind), f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _check_key(key: str, where: str, kind: type[RunConfig], command: str | None = None) -> None:
    known = dict(_keys(kind))
    groups = {name.rpartition(".")[0] for name in known} - {""}
    free = any(key.startswith(f"{name}.") for name, mapping in known.items() if mapping)
    if key in known or key in groups or free:
        return
    # The key of another section, or a key without its section, is more likely than a similar name.
    last = key.rpartition(".")[2].replace("-", "_")
    same = [name for name in known if name.rpartition(".")[2] == last]
    hint = did_you_mean(
        same[0] if same else key,
        [*known, *groups],
        otherwise=f"see {command or kind.command} --help",
        cutoff=0.5,
    )
    raise ValueError(f"{where}{key}: unknown key{hint}")
