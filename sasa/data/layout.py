"""ImageNet's folder layout, SPLIT/CLASS/…/IMAGE, on disk or in an archive.

All functions work on lists of relative paths with "/" between the parts. Hidden files and folders (with a
leading ".") and the "__MACOSX" folders that some archivers add are never part of a data set.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import PurePosixPath

from sasa.data.image_formats import image_suffixes
from sasa.errors import did_you_mean

_logger = logging.getLogger(__name__)

# "test" falls back to the validation folder because the labels of ImageNet's test images are not public.
_SPLIT_FOLDERS = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid"),
    "val": ("val", "validation", "valid"),
    "test": ("test", "val", "validation", "valid"),
}
_SPLIT_NAMES = {name for names in _SPLIT_FOLDERS.values() for name in names}


def split_spellings(split: str) -> tuple[str, ...]:
    """The usual names of a split, the most likely first; "test" ends with those of the validation split."""
    return _SPLIT_FOLDERS.get(split, (split,))


def is_image(path: str) -> bool:
    """Whether a path ends like an image file that is read, in any letter case."""
    return path.lower().endswith(image_suffixes())


def is_hidden(path: str) -> bool:
    """Whether any part of a relative path is hidden or is "__MACOSX"."""
    return any(part.startswith(".") or part == "__MACOSX" for part in path.split("/"))


def quoted(names: Iterable[str], limit: int = 5) -> str:
    """The sorted names in quotes for an error message, at most `limit` of them."""
    names = sorted(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(repr(name) for name in names[:limit]) + more


def parent_folders(paths: Iterable[str]) -> set[str]:
    """Every folder above any of the relative paths, at any depth, without the root ""."""
    folders: set[str] = set()
    for path in paths:
        parent = path.rpartition("/")[0]
        while parent and parent not in folders:
            folders.add(parent)
            parent = parent.rpartition("/")[0]
    return folders


def _children(folders: Collection[str], base: str) -> list[str]:
    return [folder for folder in folders if folder.rpartition("/")[0] == base]


def find_split(folders: Collection[str], split: str | None, location: str) -> str:
    """Find the folder of a split, at the top or below a chain of single folders.

    Args:
        folders: All folders, relative to the top.
        split: The name of the split ("train", "validation" or "val", "test", each with its usual spellings,
            or any other folder's name); None if the top itself contains the class folders.
        location: The name of the data set in messages.

    Returns:
        The split's folder relative to the top; "" for the top itself.

    Raises:
        ValueError: There is no such split.
    """
    base = ""
    while True:
        children = {folder.rpartition("/")[2]: folder for folder in _children(folders, base)}
        if split is not None:
            for name in split_spellings(split):
                if name in children:
                    return children[name]
        only = next(iter(children.values())) if len(children) == 1 else None
        if only is None or not _children(folders, only):
            break
        base = only
    if split is None:
        if children and all(name in _SPLIT_NAMES for name in children):
            raise ValueError(
                f"split: expected the name of a split, as {location} contains {quoted(children)}, got None; "
                "test_fraction is for class folders without splits"
            )
        return base
    raise ValueError(
        f"split: expected a folder of {location} ({quoted(children) or 'it has none'}), got {split!r} "
        f"(looked for {quoted(split_spellings(split))}){did_you_mean(split, children)}; "
        "if these are classes, test_fraction (data.test_fraction in a configuration) holds "
        "out a part of each for testing, and split=None takes all"
    )


def label_files(
    images: Iterable[str], files: Iterable[str], folders: Iterable[str], location: str
) -> tuple[list[str], list[tuple[str, int]]]:
    """Label every image of a split with the index of its class folder, and log which files are no images.

    Args:
        images: The image files, relative to the split's folder.
        files: All files, relative to the split's folder.
        folders: The folders, relative to the split's folder, so that empty class folders are noticed.
        location: The name of the split in messages.

    Returns:
        The class names in sorted order, and pairs (path, label), sorted by path, with
        0 ≤ label < number of classes.

    Raises:
        ValueError: There are fewer than two class folders, an image lies outside of them, or a class folder
            has no image.
    """
    images = sorted(images)
    loose = [path for path in images if "/" not in path]
    if loose:
        raise ValueError(
            f"{location}: expected images in class folders only, got {quoted(loose)} outside; move images "
            "into the folder of their class"
        )
    classes = sorted({path.split("/")[0] for path in [*folders, *images]})
    if not classes:
        raise ValueError(f"{location}: expected one folder of images per class, got no folders")
    empty = set(classes) - {path.split("/")[0] for path in images}
    if empty:
        raise ValueError(
            f"{location}: expected images in every class folder, got none in {quoted(empty)}; add images or "
            "remove the folders"
        )
    if len(classes) == 1:
        inner = {path.split("/")[1] for path in images if path.count("/") > 1}
        cause = (
            f"; if the classes are the folders inside of it ({quoted(inner)}), move these up by one level"
            if len(inner) > 1
            else "; each class needs a folder of its own"
        )
        raise ValueError(
            f"{location}: expected folders of two or more classes, got only {classes[0]!r}{cause}"
        )
    others = Counter(
        PurePosixPath(path).suffix.lower() or "without an ending" for path in files if "/" in path
    ) - Counter(PurePosixPath(path).suffix.lower() or "without an ending" for path in images if "/" in path)
    if others:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(others.items()))
        _logger.warning("%s: left out files that are not images: %s", location, kinds)
    index = {name: label for label, name in enumerate(classes)}
    return classes, [(path, index[path.split("/")[0]]) for path in images]
