"""Training and evaluation of image classifiers and detectors; Lightning runs the loop."""

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
    from sasa.train.detection.config import DetectionConfig
    from sasa.train.detection.prediction import (
        DetectedImage,
        LabeledBoxes,
        detect_in_files,
        detect_in_test_images,
    )
    from sasa.train.detection.run import evaluate_detector, resume_detector, train_detector
    from sasa.train.detection.weights import DetectorMetadata, load_detector
    from sasa.train.detectors import retinanet_from_classifier
    from sasa.train.inputs import first_image_per_class, load_images
    from sasa.train.run import evaluate, resume, train
    from sasa.train.weights import BUILT_IN_WEIGHTS, WeightsMetadata, load_weights, save_weights

# Lightning takes seconds to import: each name brings in its own file only.
_FILES = {
    "BUILT_IN_WEIGHTS": "weights",
    "AugmentationConfig": "config",
    "DataConfig": "config",
    "DetectionConfig": "detection.config",
    "DetectorMetadata": "detection.weights",
    "LabeledBoxes": "detection.prediction",
    "DetectedImage": "detection.prediction",
    "ModelConfig": "config",
    "OptimizerConfig": "config",
    "RuntimeConfig": "config",
    "TrainConfig": "config",
    "WeightsMetadata": "weights",
    "ablate": "ablation.ablate",
    "compare": "comparison",
    "detect_in_files": "detection.prediction",
    "detect_in_test_images": "detection.prediction",
    "evaluate": "run",
    "evaluate_detector": "detection.run",
    "load_config": "config_files",
    "load_detector": "detection.weights",
    "load_images": "inputs",
    "load_weights": "weights",
    "first_image_per_class": "inputs",
    "parse_config": "config_files",
    "plan_sweeps": "ablation.plan",
    "resume": "run",
    "resume_detector": "detection.run",
    "retinanet_from_classifier": "detectors",
    "save_config": "config_files",
    "save_weights": "weights",
    "train": "run",
    "train_detector": "detection.run",
}
_PACKAGES = {"jsonargparse", "lightning", "safetensors", "tensorboard", "torchmetrics", "yaml"}

__all__ = [
    "BUILT_IN_WEIGHTS",
    "AugmentationConfig",
    "DataConfig",
    "DetectedImage",
    "DetectionConfig",
    "DetectorMetadata",
    "LabeledBoxes",
    "ModelConfig",
    "OptimizerConfig",
    "RuntimeConfig",
    "TrainConfig",
    "WeightsMetadata",
    "ablate",
    "compare",
    "detect_in_files",
    "detect_in_test_images",
    "evaluate",
    "evaluate_detector",
    "first_image_per_class",
    "load_config",
    "load_detector",
    "load_images",
    "load_weights",
    "parse_config",
    "plan_sweeps",
    "resume",
    "resume_detector",
    "retinanet_from_classifier",
    "save_config",
    "save_weights",
    "train",
    "train_detector",
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
        extra = "detect" if _FILES[name].startswith("detection.") else "train"
        raise ModuleNotFoundError(
            f'sasa.train.{name} needs the package {package!r}: pip install ".[{extra}]" in a clone of sasa',
            name=error.name,
        ) from error


def __dir__() -> list[str]:
    return __all__
