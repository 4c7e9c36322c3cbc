"""The image files that a command's arguments name: files, folders and patterns."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sasa.data.files import image_files
from sasa.data.folders import FolderFiles


@dataclass(frozen=True)
class ImagePath:
    """One image file.

    Attributes:
        path: Its path.
        name: Its path relative to the folder that was given, or its file name.
    """

    path: str
    name: str


def find_images(arguments: Sequence[str], *, without: Path | None = None) -> list[ImagePath]:
    """The image files that arguments name, in their order; those of a folder or pattern are sorted.

    Args:
        arguments: Each a file with any ending; a folder, for the images in it and in its subfolders; or a
            pattern with `*`, `?`, `[…]` or, for any number of folders, `**`.
        without: A folder whose files folders and patterns do not include.

    Raises:
        FileNotFoundError: There is no such file or folder, or no file that fits a pattern.
        ValueError: A folder has no images.
    """
    excluded = None if without is None else without.resolve()
    found: list[ImagePath] = []
    for argument in arguments:
        path = Path(argument)
        if path.is_dir():
            files = FolderFiles(path)
            names = image_files(files, files.files)
            inside = [ImagePath(str(path / name), name) for name in names]
        elif path.exists() or not glob.has_magic(argument):
            if not path.exists():
                raise FileNotFoundError(
                    f"images: expected a file, folder or pattern, got {argument!r}, which does not exist"
                )
            found.append(ImagePath(argument, path.name))
            continue
        else:
            matches = sorted(file for file in glob.glob(argument, recursive=True) if Path(file).is_file())
            inside = [ImagePath(file, Path(file).name) for file in matches]
        inside = [image for image in inside if excluded not in Path(image.path).resolve().parents]
        if not inside:
            kind, error = ("folder", ValueError) if path.is_dir() else ("pattern", FileNotFoundError)
            raise error(f"images: expected images, got the {kind} {argument!r} without any")
        found += inside
    return found
