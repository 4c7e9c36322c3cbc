"""Training and evaluation of image classifiers; Lightning runs the loop."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sasa.train.ablation.ablate import ablate
    from sasa.train.ablation.plan import plan_sweeps
    from sasa.train.comparison import compare
    from sasa.train.config import (
        AugmentationConfig,
        DataConfig,
        ModelConfig,
        OptimizerConfig,
        RuntimeConfig,
        TrainConfig,
    )
    from sasa.train.config_files import load_config, parse_config, save_config
    from sasa.train.inputs import load_images, one_test_image_a_class
    from sasa.train.run import evaluate, resume, train
    from sasa.train.weights import WeightsMetadata, load_weights, save_weights

# Lightning takes seconds to import: each name brings in its own file only.
_FILES = {
    "AugmentationConfig": "config",
    "DataConfig": "config",
    "ModelConfig": "config",
    "OptimizerConfig": "config",
    "RuntimeConfig": "config",
    "TrainConfig": "config",
    "WeightsMetadata": "weights",
    "ablate": "ablation.ablate",
    "compare": "comparison",
    "evaluate": "run",
    "load_config": "config_files",
    "load_images": "inputs",
    "load_weights": "weights",
    "one_test_image_a_class": "inputs",
    "parse_config": "config_files",
    "plan_sweeps": "ablation.plan",
    "resume": "run",
    "save_config": "config_files",
    "save_weights": "weights",
    "train": "run",
}
_PACKAGES = {"jsonargparse", "lightning", "safetensors", "tensorboard", "torchmetrics", "yaml"}

__all__ = [
    "AugmentationConfig",
    "DataConfig",
    "ModelConfig",
    "OptimizerConfig",
    "RuntimeConfig",
    "TrainConfig",
    "WeightsMetadata",
    "ablate",
    "compare",
    "evaluate",
    "load_config",
    "load_images",
    "load_weights",
    "one_test_image_a_class",
    "parse_config",
    "plan_sweeps",
    "resume",
    "save_config",
    "save_weights",
    "train",
]


def __getattr__(name: str) -> Any:
    """Bring in a public name when it is first asked for, naming the extra if a package is missing."""
    if name not in _FILES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(f"{__name__}.{_FILES[name]}"), name)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _PACKAGES:
            raise
        raise ModuleNotFoundError(
            f'sasa.train.{name} needs the package {package!r}: pip install "sasa[train]"', name=error.name
        ) from error


def __dir__() -> list[str]:
    return __all__
