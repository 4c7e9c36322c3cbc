"""Create the data set of any source of annotated images by the source's name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from inspect import signature
from pathlib import Path
from typing import Any, Literal

from sasa.data.archives import ARCHIVE_SUFFIXES, open_archive
from sasa.data.checks import check_not_empty
from sasa.data.detection.coco import read_coco
from sasa.data.detection.datasets import DetectionDataset, DetectionSource, DetectionTransform
from sasa.data.detection.scenes import SceneImages
from sasa.data.detection.voc import image_sets, read_image_set, read_voc
from sasa.data.files import Files, existing_path
from sasa.data.folders import FolderFiles
from sasa.data.layout import quoted, split_spellings
from sasa.errors import did_you_mean, require

_SCENES = "scenes"
_EXPECTED = (
    f"{_SCENES!r}, a folder, an archive ({', '.join(ARCHIVE_SUFFIXES)}), or a COCO annotation file (.json)"
)
_COCO_FILE = re.compile(r"(?:(?P<base>.+)/)?annotations/instances_(?P<name>[^/]+)\.json")
_VOC_FILE = re.compile(r"(?:(?P<base>.+)/)?Annotations/[^/]+\.xml")


def create_detection_dataset(
    source: str | Path = _SCENES,
    split: str | None = "train",
    *,
    images: str | Path | None = None,
    classes: Sequence[str] | None = None,
    transform: DetectionTransform | None = None,
    on_invalid: Literal["raise", "skip"] = "raise",
    **scene_options: Any,
) -> DetectionDataset:
    """Create a data set of annotated images and check all of their annotations.

    Args:
        source: One of
            - "scenes", the built-in synthetic scenes (see SceneImages), with the splits "train", "validation"
              and "test";
            - a folder, or a .tar, .tar.gz (.bz2, .xz) or .zip archive, in COCO's layout:
              annotations/instances_SPLIT2017.json and SPLIT2017/ (or images/SPLIT2017/, images/), which may
              be nested in other folders; the images of a compressed tar are held in memory;
            - the same in VOC's layout: Annotations/*.xml, JPEGImages/, ImageSets/Main/SPLIT.txt;
            - a COCO annotation file, *.json, for which split has no effect.
            A path that looks like the name is given as "./scenes".
        split: "train", "validation" (also "val"), "test", or the name of any other split, such as
            "train2017". "test" falls back to the validation data if there is no test data. None takes the
            only annotation file, or all xml files of VOC.
        images: The folder of the images of a *.json file; None takes the folder of the file.
        classes: The names of VOC's classes by label; None takes the sorted names in all of its xml files.
        transform: Applied to each RGB PIL image and its target; None leaves them as they are.
        on_invalid: What happens to objects whose boxes have no area, extend beyond the image by more than a
            pixel, or lie outside: "raise" raises an error; "skip" leaves them out, logs and counts them
            (`skipped`). All other faults in a file are errors in any case.
        scene_options: length, size, max_items and seed of the scenes.

    Returns:
        The images with their targets. COCO's classes are numbered in the order of the categories' ids.

    Raises:
        FileNotFoundError: There is no such source.
        AnnotationError: A ValueError with the file and its faults: broken json or xml, a missing image, an
            unlisted category, ids that are not unique, boxes as above.
        TypeError: An option is not for this source.
        ValueError: A split is missing, the layout is unknown, an archive is damaged, there are no images, or
            an argument is out of range.
    """
    require(on_invalid in ("raise", "skip"), "on_invalid", "'raise' or 'skip'", on_invalid)
    source = str(source)
    is_json = source.lower().endswith(".json")
    if scene_options and source != _SCENES:
        raise TypeError(
            f"scene_options: expected none for {source!r}, as they are for {_SCENES!r}, got "
            f"{', '.join(scene_options)}"
        )
    if images is not None and not is_json:
        raise TypeError(
            f"images: expected None for {source!r}, as it is for COCO annotation files (*.json), got "
            f"{str(images)!r}"
        )
    if classes is not None and (source == _SCENES or is_json):
        raise _classes_error(source, classes)
    if source == _SCENES:
        known = signature(SceneImages).parameters
        for option in scene_options:
            if option not in known:
                hint = did_you_mean(option, known)
                raise TypeError(f"scene_options: expected those of {_SCENES!r}, got {option!r}{hint}")
        return DetectionDataset(SceneImages(split, **scene_options), transform=transform)
    path = existing_path(source, names=[_SCENES], expected=_EXPECTED, suffixes=(*ARCHIVE_SUFFIXES, ".json"))
    annotated: DetectionSource
    if is_json:
        folder = path.parent if images is None else Path(images).expanduser()
        if not folder.is_dir():
            raise FileNotFoundError(f"images: expected a folder, got {str(images)!r}")
        annotated = read_coco(path.read_bytes(), source, FolderFiles(folder), "", on_invalid)
    else:
        files = FolderFiles(path) if path.is_dir() else open_archive(path)
        annotated = _read_layout(files, split, classes, on_invalid)
    check_not_empty(annotated.image_ids, "images", annotated.location)
    return DetectionDataset(annotated, transform=transform)


def _classes_error(location: str, classes: Sequence[str]) -> TypeError:
    return TypeError(
        f"classes: expected None for {location!r}, which names its own, as they are for VOC's layout, got "
        f"{list(classes)}"
    )


def _read_layout(
    files: Files, split: str | None, classes: Sequence[str] | None, on_invalid: Literal["raise", "skip"]
) -> DetectionSource:
    """Find COCO's or VOC's layout among the files and read the split."""
    coco = [match for file in files.files if (match := _COCO_FILE.fullmatch(file))]
    voc = [match for file in files.files if (match := _VOC_FILE.fullmatch(file))]
    bases = {match["base"] or "" for match in (*coco, *voc)}
    if not bases:
        raise ValueError(
            f"{files.location}: expected COCO's annotations/instances_SPLIT.json or VOC's Annotations/*.xml, "
            "got neither; for another name give the .json file as source and its images="
        )
    if len(bases) > 1 or (coco and voc):
        raise ValueError(
            f"{files.location}: expected one data set, got several, in {quoted(bases)}; give the folder "
            "of one of them"
        )
    (base,) = bases
    prefix = f"{base}/" if base else ""
    if coco:
        if classes is not None:
            raise _classes_error(files.location, classes)
        return _read_coco_split(
            files, prefix, {match["name"]: match.string for match in coco}, split, on_invalid
        )
    if split is None:
        return read_voc(files, base, None, files.name(f"{prefix}Annotations"), classes, on_invalid)
    sets = image_sets(files, base)
    file = sets[_choose_split(split, sets, files.location)]
    stems = read_image_set(files.read_all([file])[file], files.name(file))
    return read_voc(files, base, stems, files.name(file), classes, on_invalid)


def _read_coco_split(
    files: Files,
    prefix: str,
    annotation_files: dict[str, str],
    split: str | None,
    on_invalid: Literal["raise", "skip"],
) -> DetectionSource:
    name = _choose_split(split, annotation_files, files.location)
    file = annotation_files[name]
    folders = [f"{prefix}{folder}" for folder in (name, f"images/{name}", "images")]
    folder = next((folder for folder in folders if folder in files.folders), None)
    if folder is None:
        raise ValueError(
            f"{files.name(file)}: expected a folder of images, {' or '.join(map(repr, folders))}, got none"
        )
    return read_coco(files.read_all([file])[file], files.name(file), files, folder, on_invalid)


def _choose_split(split: str | None, names: Iterable[str], location: str) -> str:
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
