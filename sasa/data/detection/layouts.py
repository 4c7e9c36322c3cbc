"""The layouts of annotated data sets: where their annotations and images lie among the files."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from sasa.data.detection.annotated_images import AnnotatedImages
from sasa.data.detection.coco import read_coco
from sasa.data.detection.voc import image_sets, read_image_set, read_voc
from sasa.data.detection.yolo import read_yolo, read_yolo_description, yolo_splits
from sasa.data.files import Files
from sasa.data.layout import is_image, quoted, split_spellings

_COCO_FILE = re.compile(r"(?:(?P<base>.+)/)?annotations/instances_(?P<name>[^/]+)\.json")
_ROBOFLOW_FILE = re.compile(r"(?:(?P<folder>.+)/)?_annotations\.coco\.json")
_VOC_FILE = re.compile(r"(?:(?P<base>.+?)/)?(?P<folder>Annotations|annotations)/.+\.xml", re.IGNORECASE)
_VOC_IMAGES = ("JPEGImages", "images", "Images", "imgs")
_YAML = re.compile(rb"^[\"']?names[\"']?\s*:", re.MULTILINE)

EXPECTED = (
    "COCO's annotations/instances_SPLIT.json, Roboflow's SPLIT/_annotations.coco.json, VOC's "
    "Annotations/*.xml, or YOLO's data.yaml"
)

_SPLITS = {name for split in ("train", "validation", "test") for name in split_spellings(split)}

OnInvalid = Literal["raise", "skip"]


def names_own_classes(location: str, classes: Sequence[str]) -> TypeError:
    """The error of class names for data that have their own."""
    return TypeError(
        f"classes: expected None for {location!r}, which names its own, as they are for VOC's layout, got "
        f"{list(classes)}"
    )


@dataclass(frozen=True)
class _Found:
    """A data set among the files: its folder, and what is needed to read it.

    Attributes:
        kind: "coco", "roboflow", "voc" or "yolo".
        base: Its folder; "" for the top.
        parts: Annotation file, or folder of annotations, by the name of the split; "" where there is no
            split.
    """

    kind: str
    base: str
    parts: dict[str, str] = field(default_factory=dict)


def read_layout(
    files: Files, split: str | None, classes: Sequence[str] | None, on_invalid: OnInvalid
) -> AnnotatedImages:
    """Find the only data set among the files and read a split of it.

    Args:
        files: The folder or archive.
        split: As in `create_detection_dataset`.
        classes: The names of VOC's classes by label; None takes those of the xml files.
        on_invalid: "raise" or "skip" boxes that are degenerate or out of range.

    Raises:
        AnnotationError: The annotations have faults.
        TypeError: There are classes for another format than VOC's.
        ValueError: There is no data set, or several, or no such split.
    """
    found = {
        (entry.kind, entry.parts[""] if entry.kind == "yolo" else entry.base): entry
        for entry in (*_find_json(files), *_find_xml(files), *_find_yaml(files))
    }
    if not found:
        raise ValueError(
            f"{files.location}: expected {EXPECTED}, got none of them; for another name give the .json file "
            "as source and its images="
        )
    if len(found) > 1:
        places = [place or entry.kind for (_, place), entry in found.items()]
        raise ValueError(
            f"{files.location}: expected one data set, got several, in {quoted(places)}; give the folder of "
            "one of them"
        )
    (entry,) = found.values()
    if entry.kind == "voc":
        return _read_voc(files, entry, split, classes, on_invalid)
    if classes is not None:
        raise names_own_classes(files.location, classes)
    if entry.kind == "yolo":
        return read_yolo_split(files, entry.base, entry.parts[""], split, on_invalid)
    name = _choose_part(entry, split, files.location)
    file = entry.parts[name]
    folder = (
        posixpath.dirname(file) if entry.kind == "roboflow" else _coco_images(files, entry.base, name, file)
    )
    return read_coco(dict(files.read_each([file]))[file], files.name(file), files, folder, on_invalid)


def read_yolo_split(
    files: Files, base: str, file: str, split: str | None, on_invalid: OnInvalid
) -> AnnotatedImages:
    """Read a split of a YOLO data set.

    Args:
        files: The folder or archive.
        base: The folder of the yaml file in it; "" for the top.
        file: The yaml file.
        split: As in `create_detection_dataset`.
        on_invalid: "raise" or "skip" boxes that are degenerate or out of range.

    Raises:
        AnnotationError: The annotations have faults.
        ValueError: There is no such split.
    """
    location = files.name(file)
    content = read_yolo_description(dict(files.read_each([file]))[file], location)
    splits = yolo_splits(content)
    entries = splits[choose_split(split, splits, location)]
    return read_yolo(files, base, content, entries, location, on_invalid)


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _find_json(files: Files) -> Iterable[_Found]:
    coco: dict[str, _Found] = {}
    roboflow: dict[str, str] = {}
    for file in files.files:
        if match := _COCO_FILE.fullmatch(file):
            base = match["base"] or ""
            coco.setdefault(base, _Found("coco", base)).parts[match["name"]] = file
        elif match := _ROBOFLOW_FILE.fullmatch(file):
            roboflow[match["folder"] or ""] = file
    return [*coco.values(), *_by_split("roboflow", roboflow)]


def _find_xml(files: Files) -> Iterable[_Found]:
    """VOC's layout; or xml files beside their images, as LabelImg and Roboflow write them."""
    found: dict[str, _Found] = {}
    beside: dict[str, str] = {}
    xml = [file for file in files.files if file.lower().endswith(".xml")]
    images = {file.rpartition(".")[0] for file in files.files if is_image(file)} if xml else set()
    for file in xml:
        match = _VOC_FILE.fullmatch(file)
        if file[: -len(".xml")] in images:
            folder = posixpath.dirname(file)
            beside[folder] = folder
        elif match:
            base = match["base"] or ""
            found[base] = _Found("voc", base, {"": _join(base, match["folder"])})
    return [*found.values(), *_by_split("voc", beside)]


def _by_split(kind: str, parts: dict[str, str]) -> Iterable[_Found]:
    """Data sets from their parts by folder: one where the folders have names of splits."""
    found: dict[str, _Found] = {}
    for folder, part in parts.items():
        base, _, name = folder.rpartition("/")
        if name not in _SPLITS:
            base, name = folder, ""
        found.setdefault(base, _Found(kind, base)).parts[name] = part
    return found.values()


def _find_yaml(files: Files) -> Iterable[_Found]:
    names = [file for file in files.files if file.lower().endswith((".yaml", ".yml"))]
    return [
        _Found("yolo", posixpath.dirname(file), {"": file})
        for file, data in files.read_each(names)
        if _YAML.search(data)
    ]


def _coco_images(files: Files, base: str, name: str, file: str) -> str:
    """The folder of the images of a split of COCO."""
    folders = [_join(base, folder) for folder in (name, f"images/{name}", "images")]
    folder = next((folder for folder in folders if folder in files.folders), None)
    if folder is None:
        raise ValueError(
            f"{files.name(file)}: expected a folder of images, {' or '.join(map(repr, folders))}, got none"
        )
    return folder


def _read_voc(
    files: Files, entry: _Found, split: str | None, classes: Sequence[str] | None, on_invalid: OnInvalid
) -> AnnotatedImages:
    if "" not in entry.parts:
        folder = entry.parts[_choose_part(entry, split, files.location)]
        return read_voc(files, folder, folder, None, files.name(folder), classes, on_invalid)
    xml_folder = entry.parts[""]
    folders = [_join(entry.base, name) for name in _VOC_IMAGES]
    beside = xml_folder == entry.base
    images = next((name for name in folders if name in files.folders), folders[0])
    images = xml_folder if beside else images
    if split is None:
        return read_voc(files, xml_folder, images, None, files.name(xml_folder), classes, on_invalid)
    sets = image_sets(files, entry.base)
    file = sets[choose_split(split, sets, files.location)]
    lines = read_image_set(dict(files.read_each([file]))[file], files.name(file))
    return read_voc(files, xml_folder, images, lines, files.name(file), classes, on_invalid)


def _choose_part(entry: _Found, split: str | None, location: str) -> str:
    """The name of the part with a split."""
    named = [name for name in entry.parts if name]
    if split is None and not named:
        return ""
    return choose_split(split, named, location)


def choose_split(split: str | None, names: Iterable[str], location: str) -> str:
    """The name of a split among those of a data set: as given, a usual spelling, or either with a year.

    Args:
        split: The split as given; None takes the only one.
        names: The names of the data set's splits.
        location: The data set in messages.

    Raises:
        ValueError: None or several of the names match.
    """
    names = sorted(names)
    spellings = (None,) if split is None else split_spellings(split)
    for spelling in spellings:
        pattern = r".*" if spelling is None else rf"{re.escape(spelling)}\d*"
        matches = [spelling] if spelling in names else [name for name in names if re.fullmatch(pattern, name)]
        if len(matches) > 1:
            raise ValueError(f"split: expected one of {quoted(matches)} for {location}, got {split!r}")
        if matches:
            return str(matches[0])
    expected = (
        f"one of {quoted(names)} for {location}" if names else f"None for {location}, which has no splits"
    )
    raise ValueError(f"split: expected {expected}, got {split!r}")
