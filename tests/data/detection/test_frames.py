"""Photos with EXIF's orientation: their boxes refer to the stored or the upright image."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image

from sasa.data.detection import create_detection_dataset

# One bright pixel, in its first row and third column.
STORED = np.zeros((30, 40), np.uint8)
STORED[0, 2] = 255


def exif(path: Path, orientation: int, pixels: np.ndarray = STORED) -> None:
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = orientation
    Image.fromarray(pixels).save(path, exif=tags)


@pytest.fixture
def sized(coco: Path) -> Callable[[int, int], Path]:
    """Annotates another size of the first image, whose boxes all lie in 30 × 30 pixels."""

    def annotate(width: int, height: int) -> Path:
        file = coco / "annotations" / "instances_train2017.json"
        content = json.loads(file.read_text())
        content["images"][0] |= {"width": width, "height": height}
        content["annotations"][1]["bbox"] = [0, 0, 30, 30]
        file.write_text(json.dumps(content))
        return coco

    return annotate


@pytest.mark.parametrize(
    ("size", "pixel"), [((40, 30), (2, 0)), ((30, 40), (29, 2))], ids=["stored", "upright"]
)
def test_the_annotated_size_decides(
    sized: Callable[..., Path], size: tuple[int, int], pixel: tuple[int, int]
) -> None:
    root = sized(*size)
    exif(root / "train2017" / "7.png", 6)
    image, target = create_detection_dataset(root)[0]
    assert image.size == size
    assert image.getpixel(pixel) == (255, 255, 255)
    assert target["boxes"].canvas_size == size[::-1]


def test_a_size_that_is_neither(sized: Callable[..., Path]) -> None:
    root = sized(41, 30)
    exif(root / "train2017" / "7.png", 6)
    message = r"7\.png: expected 41×30 pixels, as annotated, got 40×30, or 30×40 if turned upright \(EXIF ori"
    with pytest.raises(ValueError, match=message):
        create_detection_dataset(root)[0]


def test_a_size_that_does_not_decide(sized: Callable[..., Path]) -> None:
    root = sized(40, 30)
    exif(root / "train2017" / "7.png", 3)
    exif(root / "train2017" / "3.png", 3, np.zeros((50, 20), np.uint8))
    dataset = create_detection_dataset(root)
    with pytest.raises(ValueError, match=r"7\.png: EXIF orientation 3: .* size does not decide which; store"):
        dataset[0]
    assert dataset[1][0].size == (20, 50), "an image without objects"


def test_voc(voc: Path) -> None:
    exif(voc / "VOC2007" / "JPEGImages" / "b.png", 8, np.zeros((30, 20), np.uint8))
    assert create_detection_dataset(voc)[0][0].size == (30, 20)


def test_selections_and_transforms_see_the_frame(sized: Callable[..., Path]) -> None:
    root = sized(30, 40)
    exif(root / "train2017" / "7.png", 6)
    seen: list[Any] = []
    dataset = create_detection_dataset(root).select([0], lambda image, target: (seen.append(image), target))
    dataset[0]
    assert seen[0].size == (30, 40)
