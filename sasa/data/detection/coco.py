"""COCO's annotation format for detection: one json file for the images of a split."""

from __future__ import annotations

import json
import math
import posixpath
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from sasa.data.detection.annotated_images import AnnotatedImage, AnnotatedImages, AnnotatedObject
from sasa.data.detection.annotations import AnnotationError, Faults, duplicates
from sasa.data.files import Files

# What is expected of a value, and whether it is.
_Check = tuple[str, Callable[[Any], bool]]


def _is_number(value: Any) -> bool:
    return type(value) is float or (type(value) is int and abs(value) < 2**63)


_ID: _Check = (
    "a number or a string",
    lambda value: type(value) in (int, str) or (type(value) is float and math.isfinite(value)),
)
_SIDE: _Check = (
    "a positive integer",
    lambda value: _is_number(value) and 0 < value < 2**31 and value % 1 == 0,
)
_TEXT: _Check = ("a string", lambda value: isinstance(value, str))
_BOX: _Check = (
    "a list of 4 numbers, or polygons in the segmentation",
    lambda value: isinstance(value, list) and len(value) == 4 and all(map(_is_number, value)),
)
_AREA: _Check = (
    "a number of at least 0",
    lambda value: _is_number(value) and 0 <= value < math.inf,
)
_CROWD: _Check = ("0 or 1", lambda value: value in (0, 1))


def read_coco(
    data: bytes,
    location: str,
    files: Files,
    folder: str,
    on_invalid: Literal["raise", "skip"],
) -> AnnotatedImages:
    """Read a COCO annotation file; captions in it are ignored.

    Ids are labels, numbers or strings. Classes are numbered in the order of their categories' ids, strings
    after numbers. What is missing or null is derived where the file leaves no doubt: the box from the
    polygons of the segmentation, the area from the box, width and height from the image file, and "iscrowd"
    is 0.

    Args:
        data: The content of the json file.
        location: The name of the json file in messages.
        files: The folder or archive with the images.
        folder: The folder of the images in it; "" for the top. File names may begin with it.
        on_invalid: "raise" or "skip" boxes that are degenerate or out of range.

    Raises:
        AnnotationError: The file is not json or not of this format, ids are not unique, an image's file is
            missing, an annotation's image or category is not listed, or a box is invalid.
    """
    try:
        content = json.loads(data)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise AnnotationError(f"{location}: broken json: {error}") from error
    parts = ("images", "annotations", "categories")
    if not isinstance(content, dict) or not all(isinstance(content.get(part), list) for part in parts):
        raise AnnotationError(
            f"{location}: expected COCO's object with the lists {', '.join(map(repr, parts))}, got "
            + (f"the keys {sorted(content)}" if isinstance(content, dict) else type(content).__name__)
        )
    faults = Faults(location)
    categories = _valid_entries(content["categories"], "category", faults, {"id": _ID, "name": _TEXT})
    categories = _without_groups(categories, content["annotations"])
    categories.sort(key=lambda category: (isinstance(category["id"], str), category["id"]))
    for name in duplicates(category["name"] for category in categories):
        faults.add(f"category name {name!r} occurs more than once")
    if not categories:
        faults.add("categories: expected at least one, got none")
    label_of = {category["id"]: label for label, category in enumerate(categories)}

    available = set(files.files)
    images: list[AnnotatedImage] = []
    checks = {"id": _ID, "file_name": _TEXT, "width": _SIDE, "height": _SIDE}
    for entry in _valid_entries(content["images"], "image", faults, checks, optional=("width", "height")):
        file = _find(entry["file_name"], files, folder, available)
        if file not in available:
            faults.add(f"image {entry['id']}: no file {files.name(file)}")
        stated = entry.get("width") is not None and entry.get("height") is not None
        size = (int(entry["width"]), int(entry["height"])) if stated else None
        images.append(AnnotatedImage(entry["id"], file, size))
    for repeated in duplicates(image.file for image in images):
        faults.add(f"images: expected one entry for a file, got several for {repeated}")
    position_of = {image.id: position for position, image in enumerate(images)}

    objects: list[AnnotatedObject] = []
    checks = {
        "id": _ID,
        "image_id": _ID,
        "category_id": _ID,
        "bbox": _BOX,
        "area": _AREA,
        "iscrowd": _CROWD,
    }
    with_boxes = [_with_box(entry) for entry in content["annotations"]]
    for entry in _valid_entries(with_boxes, "annotation", faults, checks, optional=("area", "iscrowd")):
        name = f"annotation {entry['id']}"
        image, label = position_of.get(entry["image_id"]), label_of.get(entry["category_id"])
        if image is None:
            faults.add(f"{name}: image_id: expected the id of a listed image, got {entry['image_id']!r}")
        else:
            name += f" of {images[image].file}"
        if label is None:
            faults.add(
                f"{name}: category_id: expected the id of a listed category, got {entry['category_id']!r}"
            )
        if image is not None and label is not None:
            x, y, width, height = map(float, entry["bbox"])
            area = max(width * height, 0.0) if entry.get("area") is None else float(entry["area"])
            crowd = bool(entry.get("iscrowd"))
            objects.append(AnnotatedObject(image, name, (x, y, width, height), label, area, crowd))
    return AnnotatedImages(
        files,
        location,
        folder=folder,
        classes=[category["name"] for category in categories],
        category_ids=[category["id"] for category in categories],
        images=images,
        objects=objects,
        faults=faults,
        on_invalid=on_invalid,
    )


def _without_groups(categories: list[dict[str, Any]], annotations: list[Any]) -> list[dict[str, Any]]:
    """The categories without the one that Roboflow adds for the group of all.

    It has the supercategory "none", is the supercategory of others and often has the name of one of them. It
    is a class like the others if an annotation refers to it.
    """
    groups = [category.get("supercategory") for category in categories]
    used = [entry.get("category_id") for entry in annotations if isinstance(entry, dict)]
    return [
        category
        for category in categories
        if category.get("supercategory") != "none" or category["name"] not in groups or category["id"] in used
    ]


def _find(file_name: str, files: Files, folder: str, available: set[str]) -> str:
    """The file of an image: in the folder, or with that folder's name before it, or Windows's separators."""
    plain = posixpath.normpath(posixpath.join(folder, file_name))
    if plain in available:
        return plain
    parts = file_name.replace("\\", "/").split("/")
    last = posixpath.basename(folder) or Path(files.location).name
    for start in range(len(parts)):
        # What lies before the folder may be a path on another machine.
        if start == 0 or parts[start - 1] == last:
            candidate = posixpath.normpath(posixpath.join(folder, *parts[start:]))
            if candidate in available:
                return candidate
    return plain


def _with_box(entry: Any) -> Any:
    """The annotation with the box around its polygons if it has none."""
    if not isinstance(entry, dict) or entry.get("bbox"):
        return entry
    polygons = entry.get("segmentation")
    if not isinstance(polygons, list) or not polygons:
        return entry
    for polygon in polygons:
        is_polygon = isinstance(polygon, list) and len(polygon) >= 6 and len(polygon) % 2 == 0
        if not is_polygon or not all(map(_is_number, polygon)):
            return entry
    x = [value for polygon in polygons for value in polygon[::2]]
    y = [value for polygon in polygons for value in polygon[1::2]]
    return {**entry, "bbox": [min(x), min(y), max(x) - min(x), max(y) - min(y)]}


def _valid_entries(
    entries: list[Any],
    name: str,
    faults: Faults,
    checks: dict[str, _Check],
    optional: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """The entries of one of the file's lists that pass the checks.

    Args:
        entries: The list.
        name: What one entry is, for messages.
        faults: Receives the entries that fail and the ids that are not unique.
        checks: The checks of an entry's values by key.
        optional: Keys whose values may be missing or null.
    """
    valid = []
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict):
            faults.add(f"{name} number {number}: expected an object, got {entry!r:.60}")
            continue
        wrong = [
            key
            for key, (_, check) in checks.items()
            if not (key in optional and entry.get(key) is None) and not check(entry.get(key))
        ]
        if not wrong:
            valid.append(entry)
            continue
        described = f"{name} number {number}" if "id" in wrong else f"{name} {entry['id']}"
        for key in wrong:
            got = f"{entry[key]!r:.60}" if key in entry else "nothing"
            faults.add(f"{described}: {key}: expected {checks[key][0]}, got {got}")
    for repeated in duplicates(entry["id"] for entry in valid):
        faults.add(f"{name} id {repeated} occurs more than once")
    return valid
