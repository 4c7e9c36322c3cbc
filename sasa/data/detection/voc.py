"""Pascal VOC's annotation format for detection: one xml file for each image."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from typing import Literal

from sasa.data.detection.annotations import AnnotationError, Faults, duplicates
from sasa.data.detection.files import AnnotatedImage, AnnotatedObject, FileImages, Files
from sasa.data.layout import is_image, quoted

# Name, box and difficult of each object, with width and height of the image.
_Parsed = tuple[int, int, list[tuple[str, tuple[float, float, float, float], bool]]]


def read_voc(
    files: Files,
    base: str,
    stems: Sequence[str] | None,
    where: str,
    classes: Sequence[str] | None,
    on_invalid: Literal["raise", "skip"],
) -> FileImages:
    """Read Annotations/*.xml, whose images are the files of the same names in JPEGImages.

    VOC counts pixels from 1 and a box's xmax and ymax are the last pixels inside, so the box covers
    xmin - 1 … xmax and ymin - 1 … ymax. A difficult object is one to ignore, as a crowd is. Category ids are
    1 … C; image ids count from 1 in the order of stems.

    Args:
        files: the folder or archive.
        base: the folder in it that holds Annotations and JPEGImages, "" for its top.
        stems: the images of the split, names without endings; None means all, sorted.
        where: the split's name for messages.
        classes: label → class name; None means the names in all the xml files, whatever the split, sorted.
        on_invalid: "raise" or "skip" boxes that are degenerate or out of range.

    Raises:
        AnnotationError: an xml file is broken or missing or lacks something, an image's file is missing, an
            object's name is not among the classes, or a box is invalid.
    """
    prefix = f"{base}/" if base else ""
    faults = Faults(where)
    xml = {_stem(file): file for file in files.files if _lies_in(file, f"{prefix}Annotations", ".xml")}
    pictures = {
        _stem(file): file
        for file in files.files
        if is_image(file) and _lies_in(file, f"{prefix}JPEGImages", "")
    }
    wanted = sorted(xml) if stems is None else list(stems)
    for stem in duplicates(wanted):
        faults.add(f"image {stem!r} comes more than once")
    wanted = list(dict.fromkeys(wanted))
    needed = [xml[stem] for stem in (wanted if classes is not None else sorted(xml)) if stem in xml]
    parsed: dict[str, _Parsed] = {}
    for file, data in files.read_all(needed).items():
        content = _parse(data, file, faults)
        if content is not None:
            parsed[file] = content
    if classes is None:
        classes = sorted({name for _, _, objects in parsed.values() for name, _, _ in objects})
    label_of = {name: label for label, name in enumerate(classes)}
    images: list[AnnotatedImage] = []
    things: list[AnnotatedObject] = []
    for stem in wanted:
        if stem not in xml:
            faults.add(f"image {stem!r}: no file {files.name(f'{prefix}Annotations/{stem}.xml')}")
            continue
        if stem not in pictures:
            faults.add(f"{xml[stem]}: no image file {files.name(f'{prefix}JPEGImages/{stem}')}.*")
        if xml[stem] not in parsed or stem not in pictures:
            continue
        width, height, objects = parsed[xml[stem]]
        images.append(AnnotatedImage(len(images) + 1, pictures[stem], width, height))
        for number, (name, box, difficult) in enumerate(objects, 1):
            called = f"{xml[stem]}: object {number} ({name!r})"
            if name not in label_of:
                faults.add(f"{called}: the classes are {quoted(label_of, 20)}")
                continue
            label, area = label_of[name], box[2] * box[3]
            things.append(AnnotatedObject(len(images) - 1, called, box, label, area, difficult))
    if not classes:
        faults.add("no object in any xml file, so there are no classes")
    return FileImages(
        files,
        where,
        folder=f"{prefix}JPEGImages",
        classes=classes,
        category_ids=range(1, len(classes) + 1),
        images=images,
        objects=things,
        faults=faults,
        on_invalid=on_invalid,
    )


def read_image_set(data: bytes, where: str) -> list[str]:
    """The first word of each line of a file of ImageSets/Main; AnnotationError if it is no text."""
    try:
        lines = data.decode().splitlines()
    except UnicodeDecodeError as error:
        raise AnnotationError(f"{where}: not a text file: {error}") from error
    return [line.split()[0] for line in lines if line.strip()]


def _stem(file: str) -> str:
    return file.rpartition("/")[2].rpartition(".")[0]


def _lies_in(file: str, folder: str, suffix: str) -> bool:
    return file.rpartition("/")[0] == folder and file.lower().endswith(suffix)


def _parse(data: bytes, file: str, faults: Faults) -> _Parsed | None:
    """Width, height and objects of one xml file, or None where faults were found."""
    try:
        root = ElementTree.fromstring(data)
    except ElementTree.ParseError as error:
        faults.add(f"{file}: broken xml: {error}")
        return None
    before = len(faults.found)
    width, height = (_number(root, f"size/{side}", file, faults) for side in ("width", "height"))
    if len(faults.found) == before and not (min(width, height) >= 1 and width % 1 == height % 1 == 0):
        faults.add(f"{file}: the image's size cannot be {width:g}×{height:g}")
    objects = []
    for number, element in enumerate(root.findall("object"), 1):
        where = f"{file}: object {number}"
        name = (element.findtext("name") or "").strip()
        if not name:
            faults.add(f"{where}: no name")
        corners = ("xmin", "ymin", "xmax", "ymax")
        x1, y1, x2, y2 = (_number(element, f"bndbox/{corner}", where, faults) for corner in corners)
        difficult = (element.findtext("difficult") or "0").strip()
        if difficult not in ("0", "1"):
            faults.add(f"{where}: difficult must be 0 or 1, got {difficult!r}")
        objects.append((name, (x1 - 1, y1 - 1, x2 - x1 + 1, y2 - y1 + 1), difficult == "1"))
    return (int(width), int(height), objects) if len(faults.found) == before else None


def _number(element: ElementTree.Element, path: str, where: str, faults: Faults) -> float:
    """A number inside an element; a fault and 0 where there is none."""
    text = element.findtext(path)
    try:
        return float(text or "")
    except ValueError:
        faults.add(f"{where}: {path} must be a number, got {text!r}")
        return 0.0


def image_sets(files: Files, base: str) -> Mapping[str, str]:
    """Name → file of each image set of base."""
    folder = f"{base}/ImageSets/Main" if base else "ImageSets/Main"
    return {_stem(file): file for file in files.files if _lies_in(file, folder, ".txt")}
