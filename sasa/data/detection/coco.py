"""COCO's annotation format for detection: one json file for the images of a split."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Callable
from typing import Any, Literal

from sasa.data.detection.annotated_images import AnnotatedImage, AnnotatedImages, AnnotatedObject
from sasa.data.detection.annotations import AnnotationError, Faults, duplicates
from sasa.data.files import Files

# What is expected of a value, and whether it is.
_Check = tuple[str, Callable[[Any], bool]]


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


_INTEGER: _Check = ("an integer", lambda value: type(value) is int)
_POSITIVE: _Check = ("a positive integer", lambda value: type(value) is int and value > 0)
_TEXT: _Check = ("a string", lambda value: isinstance(value, str))
_BOX: _Check = (
    "a list of 4 numbers",
    lambda value: isinstance(value, list) and len(value) == 4 and all(map(_is_number, value)),
)


def read_coco(
    data: bytes,
    location: str,
    files: Files,
    folder: str,
    on_invalid: Literal["raise", "skip"],
) -> AnnotatedImages:
    """Read a COCO annotation file; segmentations and captions in it are ignored.

    Classes are numbered in the order of their categories' ids. The area of an annotation without "area" is
    that of its box, and an annotation without "iscrowd" is no crowd.

    Args:
        data: The content of the json file.
        location: The name of the json file in messages.
        files: The folder or archive with the images.
        folder: The folder of the images in it; "" for the top.
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
    categories = _valid_entries(content["categories"], "category", faults, {"id": _INTEGER, "name": _TEXT})
    categories.sort(key=lambda category: category["id"])
    for name in duplicates(category["name"] for category in categories):
        faults.add(f"category name {name!r} occurs more than once")
    if not categories:
        faults.add("categories: expected at least one, got none")
    label_of = {category["id"]: label for label, category in enumerate(categories)}

    available = set(files.files)
    images: list[AnnotatedImage] = []
    checks = {"id": _INTEGER, "file_name": _TEXT, "width": _POSITIVE, "height": _POSITIVE}
    for entry in _valid_entries(content["images"], "image", faults, checks):
        file = posixpath.normpath(posixpath.join(folder, entry["file_name"]))
        if file not in available:
            faults.add(f"image {entry['id']}: no file {files.name(file)}")
        images.append(AnnotatedImage(entry["id"], file, entry["width"], entry["height"]))
    position_of = {image.id: position for position, image in enumerate(images)}

    objects: list[AnnotatedObject] = []
    checks = {"id": _INTEGER, "image_id": _INTEGER, "category_id": _INTEGER, "bbox": _BOX}
    for entry in _valid_entries(content["annotations"], "annotation", faults, checks):
        name = f"annotation {entry['id']}"
        image, label = position_of.get(entry["image_id"]), label_of.get(entry["category_id"])
        if image is None:
            faults.add(f"{name}: image_id: expected the id of a listed image, got {entry['image_id']}")
        else:
            name += f" of {images[image].file}"
        if label is None:
            faults.add(
                f"{name}: category_id: expected the id of a listed category, got {entry['category_id']}"
            )
        x, y, width, height = map(float, entry["bbox"])
        area, crowd = entry.get("area", max(width * height, 0.0)), entry.get("iscrowd", 0)
        if not _is_number(area) or not 0 <= area < float("inf"):
            faults.add(f"{name}: area: expected a number of at least 0, got {area!r}")
        elif crowd not in (0, 1):
            faults.add(f"{name}: iscrowd: expected 0 or 1, got {crowd!r}")
        elif image is not None and label is not None:
            box = (x, y, width, height)
            objects.append(AnnotatedObject(image, name, box, label, float(area), bool(crowd)))
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


def _valid_entries(
    entries: list[Any], name: str, faults: Faults, checks: dict[str, _Check]
) -> list[dict[str, Any]]:
    """The entries of one of the file's lists that pass the checks.

    Args:
        entries: The list.
        name: What one entry is, for messages.
        faults: Receives the entries that fail and the ids that are not unique.
        checks: The checks of an entry's values by key.
    """
    valid = []
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict):
            faults.add(f"{name} number {number}: expected an object, got {entry!r:.60}")
            continue
        wrong = [key for key, (_, check) in checks.items() if not check(entry.get(key))]
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
