"""Pascal VOC's annotation format for detection: one xml file per image."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from typing import Literal

from torchvision.datasets.folder import IMG_EXTENSIONS

from sasa.data.detection.annotated_images import AnnotatedImage, AnnotatedImages, AnnotatedObject
from sasa.data.detection.annotations import AnnotationError, Faults, duplicates
from sasa.data.files import Files
from sasa.data.layout import quoted

# Width and height of the image, with name, box and difficult of each object.
_Annotation = tuple[int, int, list[tuple[str, tuple[float, float, float, float], bool]]]


def read_voc(
    files: Files,
    base: str,
    stems: Sequence[str] | None,
    location: str,
    classes: Sequence[str] | None,
    on_invalid: Literal["raise", "skip"],
) -> AnnotatedImages:
    """Read Annotations/*.xml; the image of NAME.xml is JPEGImages/NAME.*.

    VOC counts pixels from 1, and xmax and ymax are the last pixels inside a box, so the box covers xmin - 1 …
    xmax and ymin - 1 … ymax. Difficult objects are ignored like crowds. Category ids are 1 … C; image ids
    count from 1 in the order of stems.

    Args:
        files: The folder or archive.
        base: The folder in it that contains Annotations and JPEGImages; "" for the top.
        stems: The images of the split, as file names without endings; None takes all, sorted.
        location: The name of the split in messages.
        classes: Class names by label; None takes the sorted names in all xml files, regardless of the split.
        on_invalid: "raise" or "skip" boxes that are degenerate or out of range.

    Raises:
        AnnotationError: An xml file is broken, missing or incomplete, an image's file is missing, an object's
            name is not one of the classes, or a box is invalid.
    """
    prefix = f"{base}/" if base else ""
    faults = Faults(location)
    xml_files = _by_stem(files, f"{prefix}Annotations", ".xml")
    image_files = _by_stem(files, f"{prefix}JPEGImages", *IMG_EXTENSIONS)
    listed = sorted(xml_files) if stems is None else list(stems)
    for stem in duplicates(listed):
        faults.add(f"image {stem!r} occurs more than once")
    listed = list(dict.fromkeys(listed))
    needed = sorted(xml_files) if classes is None else [stem for stem in listed if stem in xml_files]
    parsed: dict[str, _Annotation] = {}
    for file, data in files.read_all([xml_files[stem] for stem in needed]).items():
        annotation = _parse(data, file, faults)
        if annotation is not None:
            parsed[file] = annotation
    if classes is None:
        classes = sorted({name for _, _, objects in parsed.values() for name, _, _ in objects})
    if not classes:
        faults.add("classes: expected objects in the xml files, got none")
    label_of = {name: label for label, name in enumerate(classes)}
    images: list[AnnotatedImage] = []
    objects: list[AnnotatedObject] = []
    for stem in listed:
        if stem not in xml_files:
            faults.add(f"image {stem!r}: no file {files.name(f'{prefix}Annotations/{stem}.xml')}")
            continue
        file = xml_files[stem]
        if stem not in image_files:
            faults.add(f"{file}: no image file {files.name(f'{prefix}JPEGImages/{stem}')}.*")
        if file not in parsed or stem not in image_files:
            continue
        width, height, annotated = parsed[file]
        for number, (name, box, difficult) in enumerate(annotated, 1):
            described = f"{file}: object {number} ({name!r})"
            if name in label_of:
                area = box[2] * box[3]
                objects.append(AnnotatedObject(len(images), described, box, label_of[name], area, difficult))
            else:
                faults.add(f"{described}: expected one of the classes {quoted(label_of, 20)}")
        images.append(AnnotatedImage(len(images) + 1, image_files[stem], width, height))
    return AnnotatedImages(
        files,
        location,
        folder=f"{prefix}JPEGImages",
        classes=classes,
        category_ids=range(1, len(classes) + 1),
        images=images,
        objects=objects,
        faults=faults,
        on_invalid=on_invalid,
    )


def image_sets(files: Files, base: str) -> Mapping[str, str]:
    """The files of ImageSets/Main by the names of their splits."""
    return _by_stem(files, f"{base}/ImageSets/Main" if base else "ImageSets/Main", ".txt")


def read_image_set(data: bytes, location: str) -> list[str]:
    """The first word of each line of a file of ImageSets/Main; AnnotationError if it is not text."""
    try:
        lines = data.decode().splitlines()
    except UnicodeDecodeError as error:
        raise AnnotationError(f"{location}: not a text file: {error}") from error
    return [line.split()[0] for line in lines if line.strip()]


def _by_stem(files: Files, folder: str, *suffixes: str) -> dict[str, str]:
    """The files of a folder with one of these endings, by their names without it."""
    return {
        file.rpartition("/")[2].rpartition(".")[0]: file
        for file in files.files
        if file.rpartition("/")[0] == folder and file.lower().endswith(suffixes)
    }


def _parse(data: bytes, file: str, faults: Faults) -> _Annotation | None:
    """Width, height and objects of one xml file; None if it has faults."""
    try:
        root = ElementTree.fromstring(data)
    except ElementTree.ParseError as error:
        faults.add(f"{file}: broken xml: {error}")
        return None
    before = len(faults.messages)
    width, height = (_number(root, f"size/{side}", file, faults) for side in ("width", "height"))
    if len(faults.messages) == before and not (min(width, height) >= 1 and width % 1 == height % 1 == 0):
        faults.add(f"{file}: size: expected positive integers, got {width:g}×{height:g}")
    objects = []
    for number, element in enumerate(root.findall("object"), 1):
        described = f"{file}: object {number}"
        name = (element.findtext("name") or "").strip()
        if not name:
            faults.add(f"{described}: name: expected the name of a class, got none")
        corners = ("xmin", "ymin", "xmax", "ymax")
        x1, y1, x2, y2 = (_number(element, f"bndbox/{corner}", described, faults) for corner in corners)
        difficult = (element.findtext("difficult") or "0").strip()
        if difficult not in ("0", "1"):
            faults.add(f"{described}: difficult: expected 0 or 1, got {difficult!r}")
        objects.append((name, (x1 - 1, y1 - 1, x2 - x1 + 1, y2 - y1 + 1), difficult == "1"))
    return (int(width), int(height), objects) if len(faults.messages) == before else None


def _number(element: ElementTree.Element, path: str, described: str, faults: Faults) -> float:
    """A number inside an element; a fault and 0 if there is none."""
    text = element.findtext(path)
    try:
        return float(text or "")
    except ValueError:
        faults.add(f"{described}: {path}: expected a number, got {text!r}")
        return 0.0
