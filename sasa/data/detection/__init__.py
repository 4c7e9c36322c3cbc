"""Annotated images for detection: built-in scenes, and data in COCO's, VOC's or YOLO's format."""

from sasa.data.detection.annotations import AnnotationError, Objects
from sasa.data.detection.checks import check_categories
from sasa.data.detection.dataset_factory import create_detection_dataset
from sasa.data.detection.datasets import (
    DetectionDataset,
    Target,
    collate_detection,
    without_crowds,
)
from sasa.data.detection.scenes import SceneImages
from sasa.data.detection.transforms import detection_evaluation_transform, detection_training_transform

__all__ = [
    "AnnotationError",
    "DetectionDataset",
    "Objects",
    "SceneImages",
    "Target",
    "check_categories",
    "collate_detection",
    "create_detection_dataset",
    "detection_evaluation_transform",
    "detection_training_transform",
    "without_crowds",
]
