"""How training and evaluation show what came out."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Sequence
from inspect import signature
from pathlib import Path
from typing import Any


def quiet_lightning() -> None:
    """Leave out Lightning's notices on hardware and its tips; its warnings stay."""
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)


def first_process() -> bool:
    """Whether this process is the one that prints, of those that torchrun started."""
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))) == 0


def key_values(options: Sequence[str], evaluation: Callable[..., Any]) -> dict[str, Any]:
    """The values of KEY=VALUE, read as YAML, none of which is an argument that evaluation has by itself."""
    import yaml

    values = {}
    for option in options:
        key, equals, value = option.partition("=")
        if not (key and equals):
            raise ValueError(f"--option: expected KEY=VALUE, got {option!r}")
        if key in signature(evaluation).parameters:
            raise ValueError(
                f"--option: {key!r} is not of the data; see the command's --help for its own options"
            )
        values[key] = yaml.safe_load(value)
    return values


def write(results: dict[str, Any], file: str | None) -> None:
    """Write all results to file, if there is one, as JSON; of several processes the first does."""
    if file is not None and first_process():
        Path(file).write_text(json.dumps(results, indent=2) + "\n")


def show_data(results: dict[str, Any]) -> None:
    """Print which data were evaluated; of several processes the first does."""
    if first_process():
        options = [f"{key}={value}" for key, value in results["data_options"].items()]
        print(", ".join([f"data: {results['data']}", f"split {results['split']}", *options]))


def show(results: dict[str, Any]) -> None:
    """Print accuracy and cost; of several processes the first does."""
    if not first_process():
        return
    top5 = f", top-5 {results['top5']:.2%}" if "top5" in results else ""
    loss = "not finite" if results["loss"] is None else f"{results['loss']:.4f}"
    print(f"top-1 {results['top1']:.2%}{top5}, loss {loss} on {results['images']} images")
    if "baseline_flops" in results:
        from sasa.models import Cost

        print(f"this network:           {Cost(results['parameters'], results['flops'])}")
        print(f"its convolutional twin: {Cost(results['baseline_parameters'], results['baseline_flops'])}")
