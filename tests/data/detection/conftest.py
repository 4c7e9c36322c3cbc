"""Small annotated data sets in COCO's and VOC's layout, made on the spot."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

# File, width, height, then boxes x, y, width, height with category id and crowd.
PHOTOS: dict[str, list[tuple[str, int, int, list[tuple[list[float], int, int]]]]] = {
    "train2017": [
        ("7.png", 40, 30, [([1.5, 2.25, 10, 20.5], 18, 0), ([0, 0, 40, 30], 3, 1), ([5, 5, 2, 2], 3, 0)]),
        ("3.png", 20, 50, []),
        ("5.png", 64, 64, [([60.5, 0, 3.505, 64.004], 18, 0)]),
    ],
    "val2017": [("9.png", 30, 30, [([3, 4, 5, 6], 3, 0)])],
}
CATEGORIES = [{"id": 18, "name": "dog"}, {"id": 3, "name": "car"}]

# Stem, width, height, then name, xmin, ymin, xmax, ymax and difficult.
CELLS: dict[str, list[tuple[str, int, int, list[tuple[str, float, float, float, float, int]]]]] = {
    "train": [("b", 30, 20, [("red", 1, 1, 30, 20, 0), ("white", 5, 6, 5, 6, 1)]), ("a", 10, 10, [])],
    "val": [("c", 12, 12, [("blue", 2.5, 3, 4, 8, 0)])],
}


def draw(path: Path, width: int, height: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (width, height), 7).save(path)


def coco_content(photos: list[tuple[str, int, int, list]]) -> dict[str, Any]:
    """An annotation file's content; image ids are the files' names, annotation ids count down from 100."""
    images, annotations = [], []
    for file, width, height, boxes in photos:
        number = int(file.split(".")[0])
        images.append({"id": number, "file_name": file, "width": width, "height": height})
        for box, category, crowd in boxes:
            annotations.append(
                {
                    "id": 100 - len(annotations),
                    "image_id": number,
                    "category_id": category,
                    "bbox": box,
                    "area": 0.75 * box[2] * box[3],
                    "iscrowd": crowd,
                    "segmentation": [],
                }
            )
    return {"images": images, "annotations": annotations, "categories": CATEGORIES}


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """COCO's layout, with train2017 (3 images, 4 boxes, a crowd among them) and val2017 (1 image)."""
    root = tmp_path / "photos"
    (root / "annotations").mkdir(parents=True)
    for name, photos in PHOTOS.items():
        for file, width, height, _ in photos:
            draw(root / name / file, width, height)
        (root / "annotations" / f"instances_{name}.json").write_text(json.dumps(coco_content(photos)))
    (root / "annotations" / "captions_train2017.json").write_text("{}")
    return root


@pytest.fixture
def edit(coco: Path) -> Callable[[Callable[[dict[str, Any]], object]], Path]:
    """Changes the content of the training annotations and returns the data set's folder."""
    file = coco / "annotations" / "instances_train2017.json"

    def change(how: Callable[[dict[str, Any]], object]) -> Path:
        content = json.loads(file.read_text())
        how(content)
        file.write_text(json.dumps(content))
        return coco

    return change


def voc_xml(width: int, height: int, objects: list[tuple[str, float, float, float, float, int]]) -> str:
    """One xml file."""
    objects_xml = "".join(
        f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox><xmin>{x1}</xmin>"
        f"<ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox><part><name>x</name></part></object>"
        for name, x1, y1, x2, y2, difficult in objects
    )
    size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    return f"<annotation><filename>elsewhere.jpg</filename>{size}{objects_xml}</annotation>"


@pytest.fixture
def write_xml() -> Callable[..., str]:
    """Content of one xml file: width, height, objects as in CELLS."""
    return voc_xml


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """VOC's layout below a folder, with train (2 images) and val (1)."""
    root = tmp_path / "cells"
    base = root / "VOC2007"
    for folder in ("Annotations", "ImageSets/Main"):
        (base / folder).mkdir(parents=True)
    for split, photos in CELLS.items():
        lines = [stem + "\n" for stem, *_ in photos]
        (base / "ImageSets" / "Main" / f"{split}.txt").write_text("".join(lines) + "\n")
        for stem, width, height, objects in photos:
            draw(base / "JPEGImages" / f"{stem}.png", width, height)
            (base / "Annotations" / f"{stem}.xml").write_text(voc_xml(width, height, objects))
    return root


@pytest.fixture
def draw_image() -> Callable[[Path, int, int], None]:
    """Writes an image of a width and height, folders included."""
    return draw
