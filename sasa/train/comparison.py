"""Two runs or recipes side by side."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from sasa.data import create_dataset
from sasa.models import cost, create_model
from sasa.train.ablation.inference_time import Timed, inference_seconds
from sasa.train.config import TrainConfig, options_of
from sasa.train.config_files import leaves, load_config, plain
from sasa.train.detection.config import DetectionConfig
from sasa.train.fit import CONFIG_FILE, RESULTS_FILE
from sasa.train.loaders import input_size
from sasa.train.weights import WEIGHTS_FILE, load_weights


@dataclass(frozen=True)
class Compared:
    """What is known of a run or recipe; None where it was not measured.

    Attributes:
        name: As it was given.
        model: Name of the network.
        parameters: Of the network.
        flops: Of the forward pass of an image.
        inference_seconds: For an image, measured now; see inference_time.METHOD.
        top1: Test accuracy in [0, 1], of a finished run.
        loss: Its test loss.
        training_images_per_second: While it trained, validation not counted.
        peak_memory_bytes: While it trained; see results.json.
        trained_on: Device, threads and processes it was trained with: speed and memory of two runs compare
            where they are equal.
    """

    name: str
    model: str
    parameters: int
    flops: int
    inference_seconds: float
    top1: float | None = None
    loss: float | None = None
    training_images_per_second: float | None = None
    peak_memory_bytes: int | None = None
    trained_on: str | None = None


@dataclass(frozen=True)
class Comparison:
    """Two sides, and each key of the configurations that differs: its values in one and the other."""

    one: Compared
    other: Compared
    differences: dict[str, tuple[Any, Any]]


def compare(one: str | Path, other: str | Path) -> Comparison:
    """Compare two runs or recipes: accuracy, parameters, FLOPs, speed and memory.

    Inference is timed now, both networks in turns, on this machine, each in its own precision; with the
    weights of a finished run, else with those that training would start from.

    Args:
        one: A run folder or a recipe's YAML file.
        other: The other.

    Raises:
        FileNotFoundError: There is no such run or recipe, or the data of a recipe, which say how many classes
            the network has, are not there.
        ValueError: A recipe is at fault.
    """
    sides = [_open(path) for path in (one, other)]
    seconds = inference_seconds(
        {
            str(i): Timed(network, input_size(config.data), config.runtime.precision)
            for i, (config, _, network) in enumerate(sides)
        }
    )
    first, second = (
        _compared(str(path), *side, seconds[str(i)])
        for i, (path, side) in enumerate(zip((one, other), sides, strict=True))
    )
    a, b = (leaves(plain(config)) for config, _, _ in sides)
    keys = [key for key in {**a, **b} if key != "run" and a.get(key) != b.get(key)]
    return Comparison(first, second, {key: (a.get(key), b.get(key)) for key in keys})


def _open(path: str | Path) -> tuple[TrainConfig, dict[str, Any], nn.Module]:
    """Configuration, results (empty if there are none) and network of a run folder or recipe."""
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no run folder or recipe at {path}")
    if not path.is_dir():
        return _untrained(_classifiers_config(path))
    if not (path / CONFIG_FILE).is_file():
        raise FileNotFoundError(f"no run in {path} (it has no {CONFIG_FILE}); give a run folder or a recipe")
    config = _classifiers_config(path / CONFIG_FILE)
    if not (path / RESULTS_FILE).is_file():
        return _untrained(config)
    return config, json.loads((path / RESULTS_FILE).read_text()), load_weights(path / WEIGHTS_FILE)[0]


def _classifiers_config(path: Path) -> TrainConfig:
    try:
        return load_config(path)
    except ValueError as error:
        try:
            load_config(path, DetectionConfig)
        except ValueError:
            raise error from None
        raise ValueError(
            f"{path} is of a detector, expected a classifier's; sasa detect eval --json writes its metrics"
        ) from error


def _untrained(config: TrainConfig) -> tuple[TrainConfig, dict[str, Any], nn.Module]:
    channels = input_size(config.data)[0]
    data, model = config.data, config.model
    with options_of("data"):
        classes = len(create_dataset(data.source, data.test_split, in_chans=channels, **data.options).classes)
    with options_of("model"):
        network = create_model(model.name, num_classes=classes, in_chans=channels, **model.options)
    return config, {}, network


def _compared(
    name: str, config: TrainConfig, results: dict[str, Any], network: nn.Module, seconds: float
) -> Compared:
    price = cost(network, input_size(config.data))
    speed, trained_on = None, None
    if results:
        speed = results["steps"] * config.optimizer.batch_size / results["training_seconds"]
        trained_on = f"{results['device']} (threads: {results['threads']}, processes: {results['processes']})"
    return Compared(
        name,
        config.model.name,
        price.parameters,
        price.flops,
        seconds,
        results.get("top1"),
        results.get("loss"),
        speed,
        results.get("peak_memory_bytes"),
        trained_on,
    )
