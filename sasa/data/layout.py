"""ImageNet's folder layout, SPLIT/CLASS/…/IMAGE, on disk or inside an archive.

Everything here works on lists of relative paths with "/" between the parts. Hidden entries (a
leading ".") and the "__MACOSX" folders that some archivers add are never part of a data set.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable

from torchvision.datasets.folder import IMG_EXTENSIONS

# "test" falls back on the validation folder because ImageNet's own test labels are not public.
_SPLIT_FOLDERS = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid"),
    "val": ("val", "validation", "valid"),
    "test": ("test", "val", "validation", "valid"),
}
_SPLIT_NAMES = {name for names in _SPLIT_FOLDERS.values() for name in names}


def split_spellings(split: str) -> tuple[str, ...]:
    """The names under which a split may lie, the likeliest first; "test" ends in those of validation."""
    return _SPLIT_FOLDERS.get(split, (split,))


def is_image(path: str) -> bool:
    """Whether a path ends like an image file that torchvision reads, in any letter case."""
    return path.lower().endswith(IMG_EXTENSIONS)


def is_hidden(path: str) -> bool:
    """Whether any part of a relative path is hidden or belongs to "__MACOSX"."""
    return any(part.startswith(".") or part == "__MACOSX" for part in path.split("/"))


def quoted(names: Iterable[str], limit: int = 5) -> str:
    """Names in quotes for an error message, shortened after limit of them."""
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


def find_split(folders: Collection[str], split: str | None, where: str) -> str:
    """Find the folder of a split, at the top or below a chain of single folders.

    Args:
        folders: all folders, relative to the top.
        split: its name ("train", "validation" or "val", "test", each with its usual spellings, or
            any other folder's name); None when the top itself holds the class folders.
        where: the data set's name for errors.

    Returns:
        The split's folder relative to the top, "" for the top itself.

    Raises:
        ValueError: there is no such split.
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
                f"{where}: split=None says that the class folders lie here, but {quoted(children)} "
                "look like splits; name one of them"
            )
        return base
    close = difflib.get_close_matches(split, children, n=1)
    hint = f"; did you mean split={close[0]!r}?" if close else ""
    raise ValueError(
        f"{where}: no folder for split {split!r} (looked for "
        f"{quoted(split_spellings(split))}, found {quoted(children) or 'no folders'})"
        f"{hint}; if it holds the class folders directly, put them under train/ and test/, or in Python "
        "pass split=None"
    )


def label_files(
    files: Iterable[str], folders: Iterable[str], where: str
) -> tuple[list[str], list[tuple[str, int]]]:
    """Give every image of a split the index of its class folder.

    Args:
        files: the split's files, relative to the split's folder.
        folders: its folders, so that one without images is noticed.
        where: the split's name for errors.

    Returns:
        The class names in sorted order and (path, label) pairs, sorted by path, with
        0 <= label < number of classes.

    Raises:
        ValueError: there are no class folders, an image lies outside of them, or a class folder
            holds no image.
    """
    images = sorted(path for path in files if is_image(path))
    loose = [path for path in images if "/" not in path]
    if loose:
        raise ValueError(
            f"{where}: images must lie in class folders, but {quoted(loose)} do not; move them "
            "into the folder of their class"
        )
    classes = sorted({path.split("/")[0] for path in [*folders, *images]})
    if not classes:
        raise ValueError(f"{where}: expected one folder a class with images in it, found none")
    empty = set(classes) - {path.split("/")[0] for path in images}
    if empty:
        raise ValueError(
            f"{where}: class folders without an image: {quoted(empty)} (images end in "
            f"{', '.join(IMG_EXTENSIONS)}); add images or remove the folders"
        )
    index = {name: label for label, name in enumerate(classes)}
    return classes, [(path, index[path.split("/")[0]]) for path in images]
