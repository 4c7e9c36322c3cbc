"""Training and evaluation of image classifiers and detectors, with Lightning."""

# ruff: noqa: F401 the imports for type checkers are the public names

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sasa.train.ablation.ablate import ablate
    from sasa.train.ablation.comparison import compare
    from sasa.train.ablation.plan import plan_sweeps
    from sasa.train.classification.config import AugmentationConfig, DataConfig, ModelConfig, TrainConfig
    from sasa.train.classification.evaluation import EvaluationDetails, Mistake, evaluate, evaluate_details
    from sasa.train.classification.inputs import first_image_per_class, load_images
    from sasa.train.classification.weights import WeightsMetadata, load_weights
    from sasa.train.config import OptimizerConfig, RuntimeConfig
    from sasa.train.config_files import load_config, parse_config, save_config
    from sasa.train.detection.config import DetectionConfig
    from sasa.train.detection.evaluation import evaluate_detector
    from sasa.train.detection.from_classifier import retinanet_from_classifier
    from sasa.train.detection.prediction import (
        DetectedImage,
        LabeledBoxes,
        detect_in_files,
        detect_in_test_images,
    )
    from sasa.train.detection.weights import DetectorMetadata, load_detector
    from sasa.train.run import resume, train
    from sasa.train.weights import BUILT_IN_WEIGHTS, save_weights

# Lightning takes seconds to import, so each name imports its own module only.
_MODULES = {
    "ablation.ablate": ["ablate"],
    "ablation.comparison": ["compare"],
    "ablation.plan": ["plan_sweeps"],
    "classification.config": ["AugmentationConfig", "DataConfig", "ModelConfig", "TrainConfig"],
    "classification.evaluation": ["EvaluationDetails", "Mistake", "evaluate", "evaluate_details"],
    "classification.inputs": ["first_image_per_class", "load_images"],
    "classification.weights": ["WeightsMetadata", "load_weights"],
    "config": ["OptimizerConfig", "RuntimeConfig"],
    "config_files": ["load_config", "parse_config", "save_config"],
    "detection.config": ["DetectionConfig"],
    "detection.evaluation": ["evaluate_detector"],
    "detection.from_classifier": ["retinanet_from_classifier"],
    "detection.prediction": ["DetectedImage", "LabeledBoxes", "detect_in_files", "detect_in_test_images"],
    "detection.weights": ["DetectorMetadata", "load_detector"],
    "run": ["resume", "train"],
    "weights": ["BUILT_IN_WEIGHTS", "save_weights"],
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}
_PACKAGES = {"jsonargparse", "lightning", "safetensors", "tensorboard", "torchmetrics", "yaml"}

__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    """Import a public name on first use; the error for a missing package names the extra to install."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _PACKAGES:
            raise
        extra = "detect" if _MODULE_OF[name].startswith("detection.") else "train"
        raise ModuleNotFoundError(
            f'sasa.train.{name} needs the package {package!r}: pip install ".[{extra}]" in a clone of sasa',
            name=error.name,
        ) from error


def __dir__() -> list[str]:
    return __all__
