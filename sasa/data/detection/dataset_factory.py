"""Open any source of annotated images by its name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from inspect import signature
from pathlib import Path
from typing import Any, Literal

from sasa.data.archives import ARCHIVE_SUFFIXES, ArchiveFiles
from sasa.data.detection.coco import read_coco
from sasa.data.detection.datasets import DetectionDataset, DetectionSource, DetectionTransform
from sasa.data.detection.files import Files
from sasa.data.detection.scenes import SceneImages
from sasa.data.detection.voc import image_sets, read_image_set, read_voc
from sasa.data.folders import FolderFiles
from sasa.data.layout import quoted, split_spellings

_SCENES = "scenes"
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
    """Open annotated images and check all of their annotations.

    Args:
        source: one of
            - "scenes", the built-in synthetic scenes (see SceneImages), with splits "train", "validation"
              and "test";
            - a folder, or a .tar, .tar.gz (.bz2, .xz) or .zip archive, of which a compressed tar's images are
              held in memory, in COCO's own layout: annotations/instances_SPLIT2017.json and SPLIT2017/ (or
              images/SPLIT2017/, images/), also below other folders;
            - the same in VOC's layout: Annotations/*.xml, JPEGImages/, ImageSets/Main/SPLIT.txt;
            - a COCO annotation file, *.json; split plays no part then.
            A path that looks like the name is given as "./scenes".
        split: "train", "validation" (also "val") or "test", which takes the validation data where there is no
            test data; or any split's own name, such as "train2017". None takes what there is: the only
            annotation file, or all of VOC's xml files.
        images: the folder of the images of a *.json, if it is not the file's own.
        classes: names of VOC's classes, label → name; None takes the names in all of its xml files, sorted.
        transform: applied to each RGB PIL image and its target together; None leaves them as they are.
        on_invalid: what becomes of objects whose boxes have no area, stick out of the image by more than a
            pixel, or lie outside: "raise" is an error, "skip" logs and counts them (`skipped`) and leaves
            them out. All else that is wrong in a file is an error anyway.
        scene_options: length, size, max_items and seed of the scenes.

    Returns:
        The images with their targets. COCO's classes are numbered in the order of the categories' ids.

    Raises:
        FileNotFoundError: there is no such source.
        AnnotationError: a ValueError that names the file and lists the faults in it: broken json or xml, a
            missing image, an unlisted category, ids that come twice, boxes as above.
        TypeError: an option that is not for this source.
        ValueError: a missing split, no layout that is known, a damaged archive, no images, or an argument out
            of its range.
    """
    if on_invalid not in ("raise", "skip"):
        raise ValueError(f"on_invalid must be 'raise' or 'skip', got {on_invalid!r}")
    source = str(source)
    is_json = source.lower().endswith(".json")
    if scene_options and source != _SCENES:
        raise TypeError(f"{', '.join(scene_options)}: for {_SCENES!r} only, not for {source!r}")
    if images is not None and not is_json:
        raise TypeError(f"images: for a COCO annotation file (*.json) only, not for {source!r}")
    found: DetectionSource
    if source == _SCENES:
        if classes is not None:
            raise TypeError("classes: for VOC's layout only, the scenes have their own")
        known = signature(SceneImages).parameters
        for option in scene_options:
            if option not in known:
                near = difflib.get_close_matches(option, known, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise TypeError(f"scene_options: {_SCENES!r} have no option {option!r}{hint}")
        return DetectionDataset(SceneImages(split, **scene_options), transform=transform)
    path = Path(source).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"source {source!r} does not exist{_nearest(path)}")
    if is_json:
        if classes is not None:
            raise TypeError(f"classes: for VOC's layout only; {source!r} lists its categories")
        folder = path.parent if images is None else Path(images).expanduser()
        if not folder.is_dir():
            raise FileNotFoundError(f"images {str(images)!r} is not a folder")
        found = read_coco(path.read_bytes(), source, FolderFiles(folder), "", on_invalid)
    else:
        found = _open_layout(_open_files(path), split, classes, on_invalid)
    if not found.image_ids:
        raise ValueError(f"{found.where}: there are no images")
    return DetectionDataset(found, transform=transform)


def _open_files(path: Path) -> Files:
    if path.is_dir():
        return FolderFiles(path)
    if not path.name.lower().endswith(ARCHIVE_SUFFIXES):
        raise ValueError(
            f"source {str(path)!r} is a file; expected a folder, an archive ending in "
            f"{', '.join(ARCHIVE_SUFFIXES)}, or a COCO annotation file ending in .json"
        )
    return ArchiveFiles(path)


def _open_layout(
    files: Files, split: str | None, classes: Sequence[str] | None, on_invalid: Literal["raise", "skip"]
) -> DetectionSource:
    """Find COCO's or VOC's layout among the files and read the split."""
    coco = [match for file in files.files if (match := _COCO_FILE.fullmatch(file))]
    voc = [match for file in files.files if (match := _VOC_FILE.fullmatch(file))]
    bases = {match["base"] or "" for match in (*coco, *voc)}
    if not bases:
        raise ValueError(
            f"{files.where}: found neither COCO's annotations/instances_SPLIT.json nor VOC's "
            "Annotations/*.xml; for another name give the .json file as source and its images="
        )
    if len(bases) > 1 or (coco and voc):
        raise ValueError(
            f"{files.where} holds several data sets, in {quoted(bases)}; give the folder of one of them"
        )
    (base,) = bases
    if not coco:
        return _open_voc(files, base, split, classes, on_invalid)
    if classes is not None:
        raise TypeError(f"classes: for VOC's layout only; {files.where} lists its categories")
    sets = {match["name"]: match.string for match in coco}
    name = _find(split, sets, files.where)
    where = files.name(sets[name])
    prefix = f"{base}/" if base else ""
    folders = [f"{prefix}{folder}" for folder in (name, f"images/{name}", "images")]
    folder = next((folder for folder in folders if folder in files.folders), None)
    if folder is None:
        raise ValueError(f"{where}: no folder of images; looked for {', '.join(map(repr, folders))}")
    return read_coco(files.read_all([sets[name]])[sets[name]], where, files, folder, on_invalid)


def _open_voc(
    files: Files,
    base: str,
    split: str | None,
    classes: Sequence[str] | None,
    on_invalid: Literal["raise", "skip"],
) -> DetectionSource:
    if split is None:
        where = files.name(f"{base}/Annotations" if base else "Annotations")
        return read_voc(files, base, None, where, classes, on_invalid)
    sets = image_sets(files, base)
    file = sets[_find(split, sets, files.where)]
    where = files.name(file)
    stems = read_image_set(files.read_all([file])[file], where)
    return read_voc(files, base, stems, where, classes, on_invalid)


def _find(split: str | None, names: Iterable[str], where: str) -> str:
    """The name of a split among those there are: its own, a usual spelling, or one with a year behind it."""
    names = sorted(names)
    spellings = (None,) if split is None else split_spellings(split)
    for spelling in spellings:
        pattern = r".*" if spelling is None else rf"{re.escape(spelling)}\d*"
        close = [spelling] if spelling in names else [name for name in names if re.fullmatch(pattern, name)]
        if len(close) > 1:
            raise ValueError(f"{where}: split {split!r} could be any of {quoted(close)}; name one")
        if close:
            return str(close[0])
    raise ValueError(
        f"{where}: no annotations of split {split!r}; there are {quoted(names) or 'no splits'}"
        + ("" if names else ", so give split=None")
    )


def _nearest(path: Path) -> str:
    """A hint, "; did you mean …?", with the neighbor on disk most like a missing path, or the name."""
    names = [str(found) for found in path.parent.iterdir()] if path.parent.is_dir() else []
    close = difflib.get_close_matches(str(path), [_SCENES, *names], n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; give {_SCENES!r}, a folder, an archive, or a COCO annotation file (*.json)"
