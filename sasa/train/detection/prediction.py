"""What a trained detector finds in images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from sasa.data import read_image
from sasa.data.detection import create_detection_dataset, detection_evaluation_transform
from sasa.detection import RetinaNet
from sasa.train.config_files import load_config
from sasa.train.detection.config import DetectionConfig
from sasa.train.detection.weights import load_detector
from sasa.train.fit import CONFIG_FILE


@dataclass(frozen=True)
class LabeledBoxes:
    """Objects in an image, of a detector or of its annotations.

    Attributes:
        boxes: each as x1, y1, x2, y2 in pixels of the image.
        labels: the class of each.
        names: the class's name of each.
        scores: of each in [0, 1], falling; annotated ones have 1.
    """

    boxes: list[list[float]]
    labels: list[int]
    names: list[str]
    scores: list[float]


@dataclass(frozen=True)
class DetectedImage:
    """A test image, what is annotated there, and what was found."""

    image: Image.Image
    annotated: LabeledBoxes
    found: LabeledBoxes


def detect_in_files(
    run: str | Path, paths: Sequence[str | Path], *, min_score: float = 0.3
) -> Iterator[tuple[Image.Image, LabeledBoxes]]:
    """Detect in image files, one after the other, in the order given.

    Args:
        run: a detector's run folder or its safetensors file.
        paths: image files of any size.
        min_score: leave out what scores less, in [0, 1].

    Yields:
        The RGB image and what was found in it.

    Raises:
        OSError, BrokenImageError: a file cannot be read; the error names it.
        ValueError: the weights are at fault, or min_score is out of range.
    """
    if not 0 <= min_score <= 1:
        raise ValueError(f"min_score must lie in [0, 1], got {min_score}")
    detector, metadata = load_detector(run)
    for path in paths:
        image = read_image(path)
        yield image, _detect(detector, image, metadata.classes, min_score)


def detect_in_test_images(run: str | Path, count: int = 6, *, min_score: float = 0.3) -> list[DetectedImage]:
    """Detect in the first test images of a finished run that have objects, count of them at most.

    Args:
        run: of the run.
        count: how many images.
        min_score: leave out what scores less, in [0, 1].

    Raises:
        FileNotFoundError: there is no finished run in the folder, or its data are not where they were.
        BrokenImageError: an image cannot be decoded.
        ValueError: the weights, the configuration or the data are at fault.
    """
    detector, metadata = load_detector(run)
    data = load_config(Path(run) / CONFIG_FILE, DetectionConfig).data
    test = create_detection_dataset(data.source, data.test_split, on_invalid=data.on_invalid, **data.options)
    chosen = [index for index in range(len(test)) if len(test.objects(index))][:count]
    held_out = []
    for index in chosen:
        image, target = test.image(index), test.target(index)
        labels = target["labels"].tolist()
        names = [metadata.classes[label] for label in labels]
        annotated = LabeledBoxes(target["boxes"].tolist(), labels, names, [1.0] * len(labels))
        held_out.append(
            DetectedImage(image, annotated, _detect(detector, image, metadata.classes, min_score))
        )
    return held_out


@torch.inference_mode()
def _detect(detector: RetinaNet, image: Image.Image, classes: list[str], min_score: float) -> LabeledBoxes:
    pixels, _ = detection_evaluation_transform()(image, {})
    (found,) = detector([pixels])
    kept = {name: values[found["scores"] >= min_score].tolist() for name, values in found.items()}
    names = [classes[label] for label in kept["labels"]]
    return LabeledBoxes(kept["boxes"], kept["labels"], names, kept["scores"])
