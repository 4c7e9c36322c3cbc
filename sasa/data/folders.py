"""Files and images in a folder on disk."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from sasa.data.images import decode_image
from sasa.data.layout import find_split, is_hidden, label_files


class FolderFiles:
    """The files below a folder, hidden ones left out.

    Attributes:
        where: the folder.
        files: their paths relative to it, "/" between the parts; after keep(), of those kept.
        folders: the folders below it, likewise; none after keep().
    """

    def __init__(self, root: Path) -> None:
        """List them; root is an existing folder."""
        self.where = str(root)
        files, folders = _walk(root)
        self.files, self.folders = files, set(folders)

    def keep(self, names: Sequence[str]) -> None:
        """Forget the other files."""
        self.files, self.folders = list(names), set()

    def read_all(self, names: Sequence[str]) -> dict[str, bytes]:
        """Contents of some files."""
        return {name: self.read(name) for name in names}

    def name(self, file: str) -> str:
        """Path of one file."""
        return os.path.join(self.where, file)

    def read(self, file: str) -> bytes:
        """The bytes of one file; raises OSError."""
        return Path(self.name(file)).read_bytes()


class FolderImages:
    """The images of one split of a folder in ImageNet's layout, SPLIT/CLASS/…/IMAGE.

    Attributes:
        where: the split's folder.
        classes: the class folders' names, sorted.
        targets: the label of each image, 0 <= label < len(classes).
    """

    def __init__(self, root: Path, split: str | None) -> None:
        """List the images; nothing is decoded.

        Args:
            root: an existing folder.
            split: the split's name, or None when root itself holds the class folders.

        Raises:
            ValueError: the split is missing, or its layout is wrong (see label_files).
        """
        top = [entry.name for entry in os.scandir(root) if entry.is_dir()]
        folder = root / find_split([name for name in top if not is_hidden(name)], split, str(root))
        self.where = str(folder)
        files, folders = _walk(folder)
        self.classes, samples = label_files(files, folders, self.where)
        self.targets = [label for _, label in samples]
        self._paths = [path for path, _ in samples]

    def name(self, index: int) -> str:
        """Path of one image file."""
        return os.path.join(self.where, self._paths[index])

    def load(self, index: int) -> Image.Image:
        """Decode one image as stored; raises OSError or BrokenImageError naming the file."""
        return decode_image(Path(self.name(index)).read_bytes(), self.name(index))


def _walk(top: Path) -> tuple[list[str], list[str]]:
    """Files and folders below top as relative paths, hidden ones left out, links followed."""
    files: list[str] = []
    folders: list[str] = []
    for parent, subfolders, names in os.walk(top, followlinks=True, onerror=_raise):
        subfolders[:] = [name for name in subfolders if not is_hidden(name)]
        prefix = os.path.relpath(parent, top).replace(os.sep, "/") + "/"
        prefix = "" if prefix == "./" else prefix
        folders += [prefix + name for name in subfolders]
        files += [prefix + name for name in names if not is_hidden(name)]
    return files, folders


def _raise(error: OSError) -> None:
    raise error
