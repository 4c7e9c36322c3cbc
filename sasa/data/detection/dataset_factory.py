"""Create the data set of any source of annotated images by the source's name."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from pathlib import Path
from typing import Any, Literal

from sasa.data.archives import ARCHIVE_SUFFIXES, open_archive
from sasa.data.checks import check_not_empty
from sasa.data.detection.coco import read_coco
from sasa.data.detection.datasets import DetectionDataset, DetectionSource, DetectionTransform
from sasa.data.detection.layouts import names_own_classes, read_layout, read_yolo_split
from sasa.data.detection.scenes import SceneImages
from sasa.data.files import existing_path
from sasa.data.folders import FolderFiles
from sasa.errors import did_you_mean, require

_SCENES = "scenes"
_EXPECTED = (
    f"{_SCENES!r}, a folder, an archive ({', '.join(ARCHIVE_SUFFIXES)}), a COCO annotation file (.json), or "
    "YOLO's description of a data set (.yaml)"
)
_YAML = (".yaml", ".yml")


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
            - the same in Roboflow's layout for COCO, SPLIT/_annotations.coco.json beside the images;
            - the same in VOC's layout: Annotations/*.xml, JPEGImages/ or images/, ImageSets/Main/SPLIT.txt;
              or SPLIT/*.xml beside the images;
            - the same in YOLO's layout: data.yaml, images/ and labels/;
            - a COCO annotation file, *.json, for which split has no effect;
            - YOLO's description of a data set, *.yaml, whose images are in its folder or below.
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
    is_yaml = source.lower().endswith(_YAML)
    if classes is not None and (source == _SCENES or is_json or is_yaml):
        raise names_own_classes(source, classes)
    if source == _SCENES:
        known = signature(SceneImages).parameters
        for option in scene_options:
            if option not in known:
                hint = did_you_mean(option, known)
                raise TypeError(f"scene_options: expected those of {_SCENES!r}, got {option!r}{hint}")
        return DetectionDataset(SceneImages(split, **scene_options), transform=transform)
    path = existing_path(
        source, names=[_SCENES], expected=_EXPECTED, suffixes=(*ARCHIVE_SUFFIXES, ".json", *_YAML)
    )
    annotated: DetectionSource
    if is_json:
        folder = path.parent if images is None else Path(images).expanduser()
        if not folder.is_dir():
            raise FileNotFoundError(f"images: expected a folder, got {str(images)!r}")
        annotated = read_coco(path.read_bytes(), source, FolderFiles(folder), "", on_invalid)
    elif is_yaml:
        annotated = read_yolo_split(FolderFiles(path.parent), "", path.name, split, on_invalid)
    else:
        files = FolderFiles(path) if path.is_dir() else open_archive(path)
        annotated = read_layout(files, split, classes, on_invalid)
    check_not_empty(annotated.image_ids, "images", annotated.location)
    return DetectionDataset(annotated, transform=transform)
