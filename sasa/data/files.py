"""Images in the files of a folder or an archive."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from PIL import Image

from sasa.data.archives import ArchiveFiles
from sasa.data.folders import FolderFiles
from sasa.data.images import decode_image, identify_image
from sasa.data.layout import is_image, label_files
from sasa.errors import did_you_mean

Files = FolderFiles | ArchiveFiles


def image_files(files: Files, names: Iterable[str]) -> list[str]:
    """The images among some files, sorted.

    These are the files that end like images, and those without an ending that begin like images.

    Args:
        files: The folder or archive.
        names: Which of its files.

    Raises:
        OSError: A file without an ending cannot be read.
        ValueError: A file without an ending cannot be read from the archive.
    """
    names = list(names)
    unnamed = [name for name in names if not PurePosixPath(name).suffix]
    found = [name for name, data in files.read_each(unnamed) if identify_image(data)]
    return sorted([name for name in names if is_image(name)] + found)


class FileImages:
    """Images in some of the files of a folder or an archive; the base of the sources that read files.

    Args:
        files: The folder or archive.
        names: Its image files, in order; it forgets all others.
        location: The source's name in messages.

    Raises:
        ValueError: The images of an archive cannot be kept (see `ArchiveFiles.keep_only`).
    """

    def __init__(self, files: Files, names: Sequence[str], location: str) -> None:
        files.keep_only(names)
        self.location = location
        self._files = files

    def name(self, index: int) -> str:
        """The path of one image file."""
        return self._files.name(self._files.files[index])

    def load(self, index: int) -> Image.Image:
        """Decode one image as stored; raises OSError or BrokenImageError, which names the file."""
        return decode_image(self._files.read(self._files.files[index]), self.name(index))


class ClassFolderImages(FileImages):
    """The images of one split in ImageNet's layout, CLASS/…/IMAGE.

    Args:
        files: The folder or archive.
        base: The folder inside it that contains the class folders; "" for the top.

    Attributes:
        location: The path of the split, such as "data.tar:NAME/train".
        classes: The names of the class folders, sorted.
        targets: The label of each image, 0 ≤ label < len(classes).

    Raises:
        ValueError: The layout is wrong (see `label_files`), or the images of an archive cannot be kept.
    """

    def __init__(self, files: Files, base: str = "") -> None:
        prefix = f"{base}/" if base else ""

        def below(names: Iterable[str]) -> list[str]:
            return [name.removeprefix(prefix) for name in names if name.startswith(prefix)]

        location = files.name(base) if base else files.location
        inside = [name for name in files.files if name.startswith(prefix)]
        images = image_files(files, inside)
        self.classes, samples = label_files(below(images), below(inside), below(files.folders), location)
        self.targets = [label for _, label in samples]
        super().__init__(files, [prefix + name for name, _ in samples], location)


def existing_path(source: str, *, names: Sequence[str], expected: str, suffixes: tuple[str, ...]) -> Path:
    """Check the path of a folder or file.

    Args:
        source: The path; a leading "~" is expanded.
        names: Names of data sets that a missing path may have been meant as, the built-in one first.
        expected: What a source may be, for the messages.
        suffixes: Endings of the files that are accepted, in lower case.

    Raises:
        FileNotFoundError: Nothing exists there.
        ValueError: It is a file with another ending.
    """
    path = Path(source).expanduser()
    if not path.exists():
        neighbors = [str(entry) for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        hint = did_you_mean(source.lower(), names[:1]) or did_you_mean(str(path), [*names, *neighbors])
        raise FileNotFoundError(f"source: expected {expected}, got {source!r}, which does not exist{hint}")
    if not path.is_dir() and not path.name.lower().endswith(suffixes):
        raise ValueError(f"source: expected {expected}, got the file {source!r}")
    return path
