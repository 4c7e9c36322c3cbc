"""Detections of trained detectors in images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from sasa.data import BrokenImageError, read_image
from sasa.data.detection import create_detection_dataset, detection_evaluation_transform
from sasa.detection import RetinaNet
from sasa.errors import require
from sasa.train.config_files import load_config
from sasa.train.detection.config import DetectionConfig
from sasa.train.detection.weights import load_detector
from sasa.train.run_folder import CONFIG_FILE


@dataclass(frozen=True)
class LabeledBoxes:
    """Objects in an image, detected or annotated.

    Attributes:
        boxes: Each as x1, y1, x2, y2 in pixels of the image.
        labels: Class of each box.
        names: Name of the class of each box.
        scores: Score of each box in [0, 1], in decreasing order; 1 for annotated boxes.
    """

    boxes: list[list[float]]
    labels: list[int]
    names: list[str]
    scores: list[float]


@dataclass(frozen=True)
class DetectedImage:
    """A test image with its annotations and detections.

    Attributes:
        image: The RGB image.
        ground_truth: The annotated objects.
        detections: The detected objects.
    """

    image: Image.Image
    ground_truth: LabeledBoxes
    detections: LabeledBoxes


def detect_in_files(
    run: str | Path,
    paths: Sequence[str | Path],
    *,
    min_score: float = 0.3,
    broken: list[str] | None = None,
) -> Iterator[tuple[str | Path, Image.Image, LabeledBoxes]]:
    """Detect objects in image files, one after the other, in the given order.

    Args:
        run: The run folder of a detector, or its safetensors file.
        paths: Image files of any size.
        min_score: Lowest score of a detection, in [0, 1].
        broken: Receives the errors of files that cannot be read, which are then left out; None raises them.

    Yields:
        The path, the upright RGB image and its detections.

    Raises:
        OSError: A file cannot be read; the error names it.
        BrokenImageError: A file cannot be decoded; the error names it.
        ValueError: The weights are invalid, or min_score is out of range.
    """
    require(0 <= min_score <= 1, "min_score", "a number in [0, 1]", min_score)
    detector, metadata = load_detector(run)
    for path in paths:
        try:
            image = read_image(path)
        except (OSError, BrokenImageError) as error:
            if broken is None:
                raise
            broken.append(str(error))
            continue
        yield path, image, _detect(detector, image, metadata.classes, min_score)


def detect_in_test_images(run: str | Path, count: int = 6, *, min_score: float = 0.3) -> list[DetectedImage]:
    """Detect objects in the first test images of a finished run that have objects.

    Args:
        run: The run folder.
        count: Maximum number of images.
        min_score: Lowest score of a detection, in [0, 1].

    Raises:
        BrokenImageError: An image cannot be decoded.
        FileNotFoundError: There is no finished run in the folder, or its data no longer exist.
        ValueError: The weights, the configuration or the data are invalid.
    """
    detector, metadata = load_detector(run)
    data = load_config(Path(run) / CONFIG_FILE, DetectionConfig).data
    test = create_detection_dataset(data.source, data.test_split, on_invalid=data.on_invalid, **data.options)
    images = []
    for index in [index for index in range(len(test)) if len(test.objects(index))][:count]:
        image, target = test.image(index), test.target(index)
        labels = target["labels"].tolist()
        names = [metadata.classes[label] for label in labels]
        ground_truth = LabeledBoxes(target["boxes"].tolist(), labels, names, [1.0] * len(labels))
        detections = _detect(detector, image, metadata.classes, min_score)
        images.append(DetectedImage(image, ground_truth, detections))
    return images


@torch.inference_mode()
def _detect(detector: RetinaNet, image: Image.Image, classes: list[str], min_score: float) -> LabeledBoxes:
    pixels, _ = detection_evaluation_transform()(image, {})
    (detections,) = detector([pixels])
    kept = {name: values[detections["scores"] >= min_score].tolist() for name, values in detections.items()}
    names = [classes[label] for label in kept["labels"]]
    return LabeledBoxes(kept["boxes"], kept["labels"], names, kept["scores"])
