"""Pascal VOC's annotation format for detection: one xml file per image."""

from __future__ import annotations

import codecs
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from sasa.data.detection.annotated_images import AnnotatedImage, AnnotatedImages, AnnotatedObject
from sasa.data.detection.annotations import AnnotationError, Faults, duplicates
from sasa.data.files import Files
from sasa.data.layout import is_image, quoted

_ENCODING = re.compile(rb"""\s*<\?xml[^>]*\sencoding\s*=\s*["']([\w.:-]+)["']""")


@dataclass(frozen=True)
class _Annotation:
    """One xml file: the size and the file name if it states them, and name, box and difficult of objects."""

    size: tuple[int, int] | None
    file_name: str
    objects: list[tuple[str, tuple[float, float, float, float], bool]]


def read_voc(
    files: Files,
    xml_folder: str,
    image_folder: str,
    lines: Sequence[str] | None,
    location: str,
    classes: Sequence[str] | None,
    on_invalid: Literal["raise", "skip"],
) -> AnnotatedImages:
    """Read the xml files of a folder, with subfolders; each has the name of its image.

    VOC counts pixels from 1, and xmax and ymax are the last pixels inside a box, so the box covers xmin - 1 …
    xmax and ymin - 1 … ymax. Difficult objects are ignored like crowds. Category ids are 1 … C; image ids
    count from 1 in the order of the lines. A size that an xml file does not state, or states as 0 × 0, is
    that of the image.

    Args:
        files: The folder or archive.
        xml_folder: The folder of the xml files in it; "" for the top.
        image_folder: The folder of the images; "" for the top.
        lines: The lines of an image set, which name the images of the split; None takes all, sorted.
        location: The name of the split in messages.
        classes: Class names by label; None takes the sorted names in all xml files, regardless of the split.
        on_invalid: "raise" or "skip" boxes that are degenerate or out of range.

    Raises:
        AnnotationError: An xml file is broken, missing or incomplete, an image's file is missing or one of
            several, an object's name is not one of the classes, or a box is invalid.
    """
    faults = Faults(location)
    xml_files = {
        stem: found[0] for stem, found in _by_stem(files, xml_folder, _is_xml, whole_path=True).items()
    }
    if lines is None:
        stems = sorted(xml_files)
    else:
        by_name = {
            name: _below(xml_folder, found[0])
            for name, found in _by_stem(files, xml_folder, _is_xml, whole_path=False).items()
            if len(found) == 1
        }
        stems = [_stem(line, xml_files, by_name) for line in lines]
        stems = [stem if stem in xml_files else by_name.get(stem, stem) for stem in stems]
    for stem in duplicates(stems):
        faults.add(f"image {stem!r} occurs more than once")
    stems = list(dict.fromkeys(stems))
    needed = sorted(xml_files) if classes is None else [stem for stem in stems if stem in xml_files]
    parsed: dict[str, _Annotation] = {}
    for file, data in files.read_each([xml_files[stem] for stem in needed]):
        annotation = _parse(data, file, faults)
        if annotation is not None:
            parsed[file] = annotation
    if classes is None:
        classes = sorted({name for annotation in parsed.values() for name, _, _ in annotation.objects})
    if not classes:
        faults.add("classes: expected objects in the xml files, got none")
    label_of = {name: label for label, name in enumerate(classes)}
    image_files = _ImageFiles(files, image_folder)
    images: list[AnnotatedImage] = []
    objects: list[AnnotatedObject] = []
    for stem in stems:
        if stem not in xml_files:
            faults.add(f"image {stem!r}: no file {files.name(_join(xml_folder, stem))}.xml")
            continue
        file = xml_files[stem]
        if file not in parsed:
            continue
        annotation = parsed[file]
        found = image_files.of(stem, annotation.file_name)
        if len(found) != 1:
            expected = files.name(_join(image_folder, stem))
            faults.add(
                f"{file}: expected one image file {expected}.*, got {quoted(found)}"
                if found
                else f"{file}: no image file {expected}.*"
            )
            continue
        for number, (name, box, difficult) in enumerate(annotation.objects, 1):
            described = f"{file}: object {number} ({name!r})"
            if name in label_of:
                area = box[2] * box[3]
                objects.append(AnnotatedObject(len(images), described, box, label_of[name], area, difficult))
            else:
                faults.add(f"{described}: expected one of the classes {quoted(label_of, 20)}")
        images.append(AnnotatedImage(len(images) + 1, found[0], annotation.size))
    return AnnotatedImages(
        files,
        location,
        folder=image_folder,
        classes=classes,
        category_ids=range(1, len(classes) + 1),
        images=images,
        objects=objects,
        faults=faults,
        on_invalid=on_invalid,
    )


def image_sets(files: Files, base: str) -> Mapping[str, str]:
    """The files of ImageSets/Main by the names of their splits."""
    folder = _join(base, "ImageSets/Main")
    return {
        file.rpartition("/")[2][: -len(".txt")]: file
        for file in files.files
        if file.rpartition("/")[0] == folder and file.lower().endswith(".txt")
    }


def read_image_set(data: bytes, location: str) -> list[str]:
    """The lines of a file of ImageSets/Main that are not empty; AnnotationError if it is not text."""
    # PowerShell writes UTF-16.
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        lines = data.decode("utf-16" if wide else "utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise AnnotationError(f"{location}: not a text file: {error}") from error
    return [line.strip() for line in lines if line.strip()]


class _ImageFiles:
    """The image files of a folder."""

    def __init__(self, files: Files, folder: str) -> None:
        self._by_path = _by_stem(files, folder, is_image, whole_path=True)
        self._by_name = _by_stem(files, folder, is_image, whole_path=False)

    def of(self, stem: str, file_name: str) -> list[str]:
        """The possible image files of an xml file: one, unless there is none or the choice is not clear."""
        found = self._by_path.get(stem) or self._by_name.get(stem.rpartition("/")[2], [])
        stated = file_name.replace("\\", "/").rpartition("/")[2]
        if not found:
            found = self._by_name.get(stated.rpartition(".")[0], [])
        if len(found) > 1:
            return [file for file in found if file.rpartition("/")[2] == stated] or found
        return found


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _below(folder: str, file: str) -> str:
    """The path of a file below a folder, without its ending."""
    return file.removeprefix(f"{folder}/" if folder else "").rpartition(".")[0]


def _is_xml(file: str) -> bool:
    return file.lower().endswith(".xml")


def _by_stem(
    files: Files, folder: str, wanted: Callable[[str], bool], *, whole_path: bool
) -> dict[str, list[str]]:
    """The wanted files below a folder, by their paths or their names without the ending."""
    prefix = f"{folder}/" if folder else ""
    found: dict[str, list[str]] = {}
    for file in files.files:
        if file.startswith(prefix) and wanted(file):
            stem = _below(folder, file)
            found.setdefault(stem if whole_path else stem.rpartition("/")[2], []).append(file)
    return found


def _stem(line: str, *known: Container[str]) -> str:
    """The stem that a line of an image set names; its first word if that is not known.

    A line may be a name with spaces, a name with a number (whether a class occurs), and may have an ending.
    """
    word = line.split()[0]
    candidates = [name for text in (line, word) for name in (text, text.rpartition(".")[0])]
    return next((name for name in candidates if any(name in stems for stems in known)), word)


def _parse(data: bytes, file: str, faults: Faults) -> _Annotation | None:
    """The content of one xml file; None if it has faults."""
    try:
        root = _root(data)
    except (ElementTree.ParseError, UnicodeDecodeError, LookupError) as error:
        faults.add(f"{file}: broken xml: {error}; files in another encoding than UTF-8 must declare it")
        return None
    if root is None:
        faults.add(f"{file}: expected one <annotation> with VOC's <object> elements, got something else")
        return None
    before = len(faults.messages)
    size = None
    if root.find("size") is not None:
        width, height = (_number(root, f"size/{side}", file, faults) for side in ("width", "height"))
        whole = 1 <= min(width, height) <= max(width, height) < 2**31 and width % 1 == height % 1 == 0
        if whole:
            size = int(width), int(height)
        elif len(faults.messages) == before and not width == height == 0:
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
    if len(faults.messages) > before:
        return None
    return _Annotation(size, (root.findtext("filename") or "").strip(), objects)


def _root(data: bytes) -> ElementTree.Element | None:
    """The element with the objects; None if there is none.

    Raises:
        ElementTree.ParseError: The xml is broken.
        LookupError: Its encoding is unknown.
        UnicodeDecodeError: It is in another encoding than it declares.
    """
    declared = _ENCODING.match(data)
    # The parser knows no encodings with several bytes per character, such as GBK, except for Unicode's.
    encoding = "utf" if declared is None else declared[1].decode().lower()
    root = ElementTree.fromstring(data if encoding.startswith("utf") else data.decode(encoding))
    for element in root.iter():
        if isinstance(element.tag, str):
            element.tag = element.tag.rpartition("}")[2]  # without its namespace
    if root.tag.lower() == "annotation" or root.find("object") is not None or root.find("size") is not None:
        return root
    inner = list(root.iter("annotation"))
    return inner[0] if len(inner) == 1 else None


def _number(element: ElementTree.Element, path: str, described: str, faults: Faults) -> float:
    """A number inside an element; a fault and 0 if there is none."""
    text = element.findtext(path)
    try:
        return float(text or "")
    except ValueError:
        faults.add(f"{described}: {path}: expected a number, got {text!r}")
        return 0.0
