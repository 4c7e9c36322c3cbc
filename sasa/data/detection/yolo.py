"""YOLO's annotation format for detection: a yaml file for the data set, and a text file per image."""

from __future__ import annotations

import logging
import posixpath
from typing import Any, Literal

from sasa.data.detection.annotated_images import AnnotatedImage, AnnotatedImages, AnnotatedObject
from sasa.data.detection.annotations import AnnotationError, Faults, duplicates
from sasa.data.files import Files
from sasa.data.layout import is_image

_logger = logging.getLogger(__name__)

# Keys of the yaml file that are not splits.
_NOT_SPLITS = ("path", "names", "nc", "download", "kpt_shape", "flip_idx", "roboflow", "kpt_names")


def read_yolo_description(data: bytes, location: str) -> dict[str, Any]:
    """The content of a data set's yaml file.

    Raises:
        AnnotationError: It is broken, or names no classes.
    """
    import yaml

    try:
        content = yaml.safe_load(data)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise AnnotationError(f"{location}: broken yaml: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("names"), (list, dict)):
        raise AnnotationError(f"{location}: names: expected the names of the classes, a list or a map")
    return content


def yolo_splits(content: dict[str, Any]) -> dict[str, list[str]]:
    """The entries of each split: folders of images, or text files that list them."""
    splits = {}
    for key, value in content.items():
        entries = [value] if isinstance(value, str) else value
        if key in _NOT_SPLITS or not isinstance(entries, list) or not entries:
            continue
        if all(isinstance(entry, str) and entry for entry in entries):
            splits[str(key)] = entries
    return splits


def read_yolo(
    files: Files,
    base: str,
    content: dict[str, Any],
    entries: list[str],
    location: str,
    on_invalid: Literal["raise", "skip"],
) -> AnnotatedImages:
    """Read the label files of a split's images.

    The label file of images/…/NAME.jpg is labels/…/NAME.txt; without a folder "images" it is beside the
    image. A line is a class number and x, y, width and height of a box around its center, or the corners of a
    polygon, whose box is taken; all as shares of the upright image. An image with an empty label file, or
    without one, has no objects. Category ids are the class numbers; image ids count from 1.

    Args:
        files: The folder or archive.
        base: The folder of the yaml file in it; "" for the top.
        content: The content of the yaml file.
        entries: The entries of the split.
        location: The yaml file in messages.
        on_invalid: "raise" or "skip" boxes that are degenerate or out of range.

    Raises:
        AnnotationError: The classes are not described, an entry or all label files are missing, a line is
            wrong, or a box is invalid.
    """
    faults = Faults(location)
    names = _class_names(content, faults)
    label_of = {number: label for label, number in enumerate(names)}
    image_files: list[str] = []
    for entry in entries:
        found = _images_of(files, base, str(content.get("path") or ""), entry, faults)
        if not found:
            faults.add(f"{entry}: expected a folder of images or a text file that lists them, got none")
        image_files += found
    for file in duplicates(image_files):
        faults.add(f"image {file} occurs more than once")
    image_files = list(dict.fromkeys(image_files))
    available = set(files.files)
    label_files = [_label_file(file) for file in image_files]
    present = [file for file in label_files if file in available]
    if image_files and not present:
        faults.add(f"labels: expected label files, such as {label_files[0]}, got none")
    faults.raise_any("correct them")
    if len(present) < len(image_files):
        missing = len(image_files) - len(present)
        _logger.info("%s: %d of %d images have no label file", location, missing, len(image_files))
    lines = dict(files.read_each(present))
    poses = "kpt_shape" in content
    objects: list[AnnotatedObject] = []
    for index, file in enumerate(label_files):
        for number, (category, box) in _boxes(lines.get(file, b""), file, poses, faults):
            name = f"{file}: line {number}"
            if category in label_of:
                area = box[2] * box[3]
                objects.append(AnnotatedObject(index, name, box, label_of[category], area, False))
            else:
                faults.add(f"{name}: expected one of the class numbers {list(names)}, got {category}")
    return AnnotatedImages(
        files,
        location,
        folder=base,
        classes=list(names.values()),
        category_ids=list(names),
        images=[AnnotatedImage(number, file, None) for number, file in enumerate(image_files, 1)],
        objects=objects,
        faults=faults,
        on_invalid=on_invalid,
        relative=True,
    )


def _class_names(content: dict[str, Any], faults: Faults) -> dict[int, str]:
    """The names of the classes by their numbers, in order."""
    given = content["names"]
    names: dict[int, str] = {}
    for key, name in given.items() if isinstance(given, dict) else enumerate(given):
        number = int(key) if isinstance(key, str) and key.isdecimal() else key
        if type(number) is not int or number < 0:
            faults.add(f"names: expected class numbers from 0, got {key!r}")
        elif isinstance(name, bool) or not isinstance(name, (str, int, float)):
            faults.add(f"names: class {number}: expected a name, got {name!r}; put it into quotes")
        else:
            names[number] = str(name)
    for name in duplicates(names.values()):
        faults.add(f"names: class name {name!r} occurs more than once")
    if not names:
        faults.add("names: expected at least one class, got none")
    count = content.get("nc")
    if count is not None and count != len(given):
        faults.add(f"nc: expected {len(given)}, the number of names, got {count!r}")
    return dict(sorted(names.items()))


def _images_of(files: Files, base: str, path: str, entry: str, faults: Faults) -> list[str]:
    """The image files of one entry of a split."""
    available = set(files.files)
    roots = [posixpath.join(base, path), base]
    # Roboflow writes ../train/images for a folder beside the yaml file.
    inner = entry.replace("\\", "/")
    while inner.startswith("../"):
        inner = inner.removeprefix("../")
    for place in [*(posixpath.join(root, entry) for root in roots), posixpath.join(base, inner)]:
        place = posixpath.normpath(place)
        prefix = "" if place == "." else f"{place}/"
        if place in files.folders or not prefix:
            return sorted(file for file in files.files if file.startswith(prefix) and is_image(file))
        if place in available and place.lower().endswith(".txt"):
            try:
                lines = dict(files.read_each([place]))[place].decode("utf-8-sig").splitlines()
            except UnicodeDecodeError as error:
                faults.add(f"{place}: not a text file: {error}")
                return []
            listed = []
            for line in filter(None, map(str.strip, lines)):
                places = [
                    posixpath.normpath(posixpath.join(root, line))
                    for root in (posixpath.dirname(place), *roots)
                ]
                file = next((file for file in places if file in available), None)
                if file is None:
                    faults.add(f"{place}: no image file {line}")
                else:
                    listed.append(file)
            return listed
    return []


def _label_file(image: str) -> str:
    """The label file of an image."""
    folders = image.rpartition(".")[0].split("/")
    for position in range(len(folders) - 2, -1, -1):
        if folders[position] == "images":
            folders[position] = "labels"
            break
    return "/".join(folders) + ".txt"


def _boxes(
    data: bytes, file: str, poses: bool, faults: Faults
) -> list[tuple[int, tuple[int, tuple[float, float, float, float]]]]:
    """Line number, class number and box (x, y, width, height) of each line that is not empty."""
    try:
        lines = data.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        faults.add(f"{file}: not a text file: {error}")
        return []
    boxes = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            category, *values = map(float, line.split())
        except ValueError:
            faults.add(f"{file}: line {number}: expected numbers, got {line!r:.60}")
            continue
        if poses:
            values = values[:4]  # key points follow
        if category % 1 or not (len(values) == 4 or (len(values) >= 6 and len(values) % 2 == 0)):
            faults.add(
                f"{file}: line {number}: expected a class number with a box of 4 numbers or a polygon of "
                f"6 or more, got {line!r:.60}"
            )
            continue
        if len(values) == 4:
            x, y, width, height = values
            box = (x - width / 2, y - height / 2, width, height)
        else:
            left, top = min(values[::2]), min(values[1::2])
            box = (left, top, max(values[::2]) - left, max(values[1::2]) - top)
        boxes.append((number, (int(category), box)))
    return boxes
