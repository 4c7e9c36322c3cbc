"""COCO's annotation format for detection: one json file for the images of a split."""

from __future__ import annotations

import json
import posixpath
from typing import Any, Literal

from sasa.data.detection.annotations import AnnotationError, Faults, duplicates
from sasa.data.detection.files import AnnotatedImage, AnnotatedObject, FileImages, Files


def read_coco(
    data: bytes,
    where: str,
    files: Files,
    folder: str,
    on_invalid: Literal["raise", "skip"],
) -> FileImages:
    """Read a COCO annotation file; segmentations and captions in it are passed over.

    Classes are numbered in the order of their categories' ids. An annotation without "area" has its box's,
    one without "iscrowd" is no crowd.

    Args:
        data: the json file's content.
        where: its name.
        files: the folder or archive that holds the images.
        folder: the images' folder in it, "" for its top.
        on_invalid: "raise" or "skip" boxes that are degenerate or out of range.

    Raises:
        AnnotationError: the file is no json or not of this format, ids come twice, an image's file is
            missing, an annotation's image or category is not listed, or a box is invalid.
    """
    try:
        content = json.loads(data)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise AnnotationError(f"{where}: broken json: {error}") from error
    parts = ("images", "annotations", "categories")
    if not isinstance(content, dict) or not all(isinstance(content.get(part), list) for part in parts):
        raise AnnotationError(
            f"{where}: expected COCO's object with the lists {', '.join(map(repr, parts))}, got "
            + (f"the keys {sorted(content)}" if isinstance(content, dict) else type(content).__name__)
        )
    faults = Faults(where)
    categories = _Entries(content["categories"], "category", faults)
    names = categories.take({"id": _is_integer, "name": lambda value: isinstance(value, str)})
    names.sort(key=lambda category: category["id"])
    for again in duplicates(category["name"] for category in names):
        faults.add(f"category name {again!r} comes more than once")
    label_of = {category["id"]: label for label, category in enumerate(names)}

    available = set(files.files)
    images: list[AnnotatedImage] = []
    listed = _Entries(content["images"], "image", faults)
    for entry in listed.take(
        {
            "id": _is_integer,
            "file_name": lambda value: isinstance(value, str),
            "width": _is_positive_integer,
            "height": _is_positive_integer,
        }
    ):
        file = posixpath.normpath(posixpath.join(folder, entry["file_name"]))
        if file not in available:
            faults.add(f"image {entry['id']}: no file {files.name(file)}")
        images.append(AnnotatedImage(entry["id"], file, entry["width"], entry["height"]))
    position_of = {image.id: position for position, image in enumerate(images)}

    objects: list[AnnotatedObject] = []
    annotations = _Entries(content["annotations"], "annotation", faults)
    for entry in annotations.take(
        {
            "id": _is_integer,
            "image_id": _is_integer,
            "category_id": _is_integer,
            "bbox": lambda value: isinstance(value, list) and len(value) == 4 and all(map(_is_number, value)),
        }
    ):
        name = f"annotation {entry['id']}"
        image, label = position_of.get(entry["image_id"]), label_of.get(entry["category_id"])
        if image is None:
            faults.add(f"{name}: the file lists no image with id {entry['image_id']}")
        else:
            name += f" of {images[image].file}"
        if label is None:
            faults.add(f"{name}: the file lists no category with id {entry['category_id']}")
        x, y, width, height = map(float, entry["bbox"])
        area, crowd = entry.get("area", max(width * height, 0.0)), entry.get("iscrowd", 0)
        if not _is_number(area) or not 0 <= area < float("inf"):
            faults.add(f"{name}: 'area' must be a number of at least 0, got {area!r}")
        elif crowd not in (0, 1):
            faults.add(f"{name}: 'iscrowd' must be 0 or 1, got {crowd!r}")
        elif image is not None and label is not None:
            box = (x, y, width, height)
            objects.append(AnnotatedObject(image, name, box, label, float(area), bool(crowd)))
    if not names:
        faults.add("it lists no categories")
    return FileImages(
        files,
        where,
        folder=folder,
        classes=[category["name"] for category in names],
        category_ids=[category["id"] for category in names],
        images=images,
        objects=objects,
        faults=faults,
        on_invalid=on_invalid,
    )


class _Entries:
    """The entries of one of the file's lists, of which those with usable values are taken."""

    def __init__(self, entries: list[Any], kind: str, faults: Faults) -> None:
        self._entries, self._kind, self._faults = entries, kind, faults

    def take(self, checks: dict[str, Any]) -> list[dict[str, Any]]:
        """Entries whose values pass the checks; the others, and ids that come twice, are faults."""
        taken = []
        for number, entry in enumerate(self._entries):
            if not isinstance(entry, dict):
                name = f"{self._kind} number {number}"
                self._faults.add(f"{name}: expected an object, got {entry!r:.60}")
                continue
            wrong = [key for key, check in checks.items() if not check(entry.get(key))]
            if not wrong:
                taken.append(entry)
                continue
            name = f"{self._kind} number {number}" if "id" in wrong else f"{self._kind} {entry['id']}"
            missing = ", ".join(repr(key) for key in wrong if key not in entry)
            values = ", ".join(f"{key!r} {entry[key]!r:.60}" for key in wrong if key in entry)
            self._faults.add(f"{name}: no {missing}" if missing else f"{name}: cannot use {values}")
        for again in duplicates(entry["id"] for entry in taken):
            self._faults.add(f"{self._kind} id {again} comes more than once")
        return taken


def _is_integer(value: Any) -> bool:
    return type(value) is int


def _is_positive_integer(value: Any) -> bool:
    return type(value) is int and value > 0


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)
