"""Files in a folder on disk."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from sasa.data.layout import is_hidden


class FolderFiles:
    """The files below a folder, without hidden ones; links are followed.

    Args:
        root: An existing folder.

    Attributes:
        location: The path of the folder.
        files: Relative paths of the files, with "/" between the parts; after `keep_only`, of those kept.
        folders: Relative paths of the folders; empty after `keep_only`.

    Raises:
        OSError: A folder cannot be read.
    """

    def __init__(self, root: Path) -> None:
        self.location = str(root)
        self.files: list[str] = []
        self.folders: set[str] = set()
        for parent, subfolders, names in os.walk(root, followlinks=True, onerror=_raise):
            subfolders[:] = [name for name in subfolders if not is_hidden(name)]
            prefix = os.path.relpath(parent, root).replace(os.sep, "/") + "/"
            prefix = "" if prefix == "./" else prefix
            self.folders |= {prefix + name for name in subfolders}
            self.files += [prefix + name for name in names if not is_hidden(name)]

    def keep_only(self, names: Sequence[str]) -> None:
        """Forget all other files."""
        self.files, self.folders = list(names), set()

    def read_all(self, names: Sequence[str]) -> dict[str, bytes]:
        """The contents of some files."""
        return {name: self.read(name) for name in names}

    def name(self, file: str) -> str:
        """The path of one file."""
        return os.path.join(self.location, file)

    def read(self, file: str) -> bytes:
        """The content of one file; raises OSError."""
        return Path(self.name(file)).read_bytes()


def _raise(error: OSError) -> None:
    raise error
