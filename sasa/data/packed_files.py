"""What tar and zip archives have in common: names, a limit of size, and that the file stays the same."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from sasa.data.layout import is_hidden, parent_folders

# An archive of a few megabytes can unpack to any size. COCO's largest annotation file has 450 MiB.
MAX_FILE_BYTES = 512 * 2**20


class PackedFiles:
    """The names of the files in an archive, without hidden ones; the base of its formats.

    Args:
        path: An existing file.

    Attributes:
        location: The path of the archive, as given.
        files: Names of the files; after `keep_only`, of those kept.
        folders: Names of the folders at any depth, also of empty ones; empty after `keep_only`.
    """

    def __init__(self, path: Path) -> None:
        self.location = str(path)
        self.files: list[str] = []
        self.folders: set[str] = set()
        # The file stays the same one if the working directory changes, or another one takes its name.
        self._path = os.path.abspath(path)
        self._identity = _identity(os.stat(path))

    def _set_names(self, files: Iterable[str], folders: Iterable[str]) -> None:
        self.files = [name for name in files if not is_hidden(name)]
        self.folders = {name for name in folders if not is_hidden(name)}
        self.folders |= parent_folders([*self.files, *self.folders])

    def _require_same(self, file: IO[bytes]) -> None:
        """Raise ValueError if an open file is not the one whose names were read."""
        if _identity(os.fstat(file.fileno())) != self._identity:
            raise ValueError(
                f"{self.location}: expected the archive as it was when it was opened, got one that was "
                "changed or replaced since then; open the data again"
            )

    def _require_size(self, file: str, size: int) -> None:
        """Raise ValueError if a file is too large to unpack."""
        if size > MAX_FILE_BYTES:
            raise ValueError(
                f"{self.name(file)}: expected at most {MAX_FILE_BYTES:,} bytes per file of an archive, got "
                f"{size:,}; unpack the archive if you trust it, and give the folder"
            )

    def name(self, file: str) -> str:
        """Archive and file, "data.tar:NAME/train/cat/1.jpg"."""
        return f"{self.location}:{file}"


def _identity(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
