"""Two classifiers, as runs or recipes, side by side."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from sasa.data import create_dataset
from sasa.errors import require
from sasa.models import cost, create_model
from sasa.models.options import network_options
from sasa.train.ablation.inference_time import Timed, inference_seconds
from sasa.train.classification.config import TrainConfig
from sasa.train.classification.data import input_size
from sasa.train.classification.weights import load_weights
from sasa.train.config import options_of
from sasa.train.config_files import config_kind, leaves, load_config, plain
from sasa.train.run_folder import CONFIG_FILE, RESULTS_FILE, WEIGHTS_FILE


@dataclass(frozen=True)
class Compared:
    """A run or recipe in a comparison; None for what was not measured.

    Attributes:
        name: The path that was given.
        model: Name of the network.
        parameters: Number of parameters.
        flops: FLOPs of the forward pass of an image.
        inference_seconds: Inference time per image, measured now; see inference_time.METHOD.
        top1: Test accuracy in [0, 1] of a finished run.
        loss: Test loss of a finished run.
        training_images_per_second: Training speed, without validation.
        peak_memory_bytes: Peak memory of the training; see results.json.
        trained_on: Device, threads and processes of the training. Speed and memory are comparable if these
            are equal.
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
    """Two runs or recipes.

    Attributes:
        first: The first one.
        second: The second one.
        differences: The configuration keys that differ, each with both values.
    """

    first: Compared
    second: Compared
    differences: dict[str, tuple[Any, Any]]


class _Opened(NamedTuple):
    """A run or recipe; the results are empty if there are none."""

    config: TrainConfig
    results: dict[str, Any]
    network: nn.Module


def compare(first: str | Path, second: str | Path) -> Comparison:
    """Compare two runs or recipes: accuracy, parameters, FLOPs, speed and memory.

    The inference time is measured now, on this machine. The networks take turns, each in its own precision,
    with the weights of the finished run or else with new ones.

    Args:
        first: A run folder, or the YAML file of a recipe.
        second: The other one.

    Raises:
        FileNotFoundError: There is no such run or recipe, or the data of a recipe, which determine the number
            of classes, do not exist.
        ValueError: A recipe is invalid, or configures a detector.
    """
    paths = (first, second)
    opened = [_open(Path(path)) for path in paths]
    seconds = inference_seconds(
        {
            number: Timed(side.network, input_size(side.config.data), side.config.runtime.precision)
            for number, side in enumerate(opened)
        }
    )
    sides = [
        _compared(str(path), side, seconds[n])
        for n, (path, side) in enumerate(zip(paths, opened, strict=True))
    ]
    a, b = (leaves(plain(side.config)) for side in opened)
    keys = [key for key in {**a, **b} if key != "run" and a.get(key) != b.get(key)]
    return Comparison(sides[0], sides[1], {key: (a.get(key), b.get(key)) for key in keys})


def _open(path: Path) -> _Opened:
    if not path.exists():
        raise FileNotFoundError(f"run: expected a run folder or a recipe, got {path}, which does not exist")
    file = path / CONFIG_FILE if path.is_dir() else path
    if not file.is_file():
        raise FileNotFoundError(f"run: expected a run folder or a recipe, got {path} without {CONFIG_FILE}")
    kind = config_kind(file)
    advice = "sasa detect eval --json writes the metrics of a detector"
    require(kind is TrainConfig, str(file), "a classifier's configuration", kind.__name__, advice)
    config: TrainConfig = load_config(file)
    if path.is_dir() and (path / RESULTS_FILE).is_file():
        results = json.loads((path / RESULTS_FILE).read_text())
        return _Opened(config, results, load_weights(path / WEIGHTS_FILE)[0])
    channels = input_size(config.data)[0]
    data, model = config.data, config.model
    with options_of("data"):
        classes = len(
            create_dataset(data.source, data.test_split, in_chans=channels, **data.dataset_options).classes
        )
    with options_of("model"):
        options = network_options(model.options)
        network = create_model(model.name, num_classes=classes, in_chans=channels, **options)
    return _Opened(config, {}, network)


def _compared(name: str, opened: _Opened, seconds: float) -> Compared:
    config, results, network = opened
    network_cost = cost(network, input_size(config.data))
    measured: dict[str, Any] = {key: results.get(key) for key in ("top1", "loss", "peak_memory_bytes")}
    if results:
        images = results["steps"] * config.optimizer.batch_size
        measured["training_images_per_second"] = images / results["training_seconds"]
        threads, processes = results["threads"], results["processes"]
        measured["trained_on"] = f"{results['device']} (threads: {threads}, processes: {processes})"
    return Compared(name, config.model.name, network_cost.parameters, network_cost.flops, seconds, **measured)
