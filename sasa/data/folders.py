"""Files in a folder on disk."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from sasa.data.images import BrokenImageError
from sasa.data.layout import is_hidden


class FolderFiles:
    """The files below a folder, without hidden ones; links are followed, but not in a circle.

    Args:
        root: An existing folder.

    Attributes:
        location: The path of the folder.
        files: Relative paths of the files, with "/" between the parts; after `keep_only`, of those kept.
        folders: Relative paths of the folders; empty after `keep_only`.

    Raises:
        OSError: A folder cannot be read.
        ValueError: A link leads to a folder that contains it.
    """

    def __init__(self, root: Path) -> None:
        self.location = str(root)
        # The folder stays the same one if the working directory changes.
        self._root = os.path.abspath(root)
        self.files: list[str] = []
        self.folders: set[str] = set()
        above = {str(root): [_identity(path) for path in (Path(self._root), *Path(self._root).parents)]}
        for parent, subfolders, names in os.walk(root, followlinks=True, onerror=_raise):
            subfolders[:] = [name for name in subfolders if not is_hidden(name)]
            chain = above.pop(parent)
            for name in subfolders:
                path = os.path.join(parent, name)
                identity = _identity(path)
                if identity in chain:
                    raise ValueError(
                        f"{path}: expected a folder of images, got a link to {os.path.realpath(path)}, which "
                        "contains it; remove the link"
                    )
                above[path] = [*chain, identity]
            prefix = os.path.relpath(parent, root).replace(os.sep, "/") + "/"
            prefix = "" if prefix == "./" else prefix
            self.folders |= {prefix + name for name in subfolders}
            self.files += [prefix + name for name in names if not is_hidden(name)]

    def keep_only(self, names: Sequence[str]) -> None:
        """Forget all other files."""
        self.files, self.folders = list(names), set()

    def read_each(self, names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """Names and contents of some files."""
        for name in names:
            yield name, self.read(name)

    def name(self, file: str) -> str:
        """The path of one file."""
        return os.path.join(self.location, file)

    def read(self, file: str) -> bytes:
        """The content of one file.

        Raises:
            BrokenImageError: It is a link to nothing.
            OSError: It cannot be read.
        """
        path = Path(self._root, file)
        if path.is_symlink() and not path.exists():
            raise BrokenImageError(
                f"{self.name(file)}: broken image: a link to {os.readlink(path)}, which does not exist"
            )
        return path.read_bytes()


def _identity(folder: str | Path) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _raise(error: OSError) -> None:
    raise error
