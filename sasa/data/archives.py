"""Files in a tar or zip archive, by the ending of its name."""

from __future__ import annotations

from pathlib import Path

from sasa.data.tars import TarFiles
from sasa.data.zips import ZipFiles

ARCHIVE_SUFFIXES = (".tar", ".zip", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")

ArchiveFiles = TarFiles | ZipFiles


def open_archive(path: Path) -> ArchiveFiles:
    """The files of an archive, without hidden ones.

    Args:
        path: An existing file whose name ends in one of ARCHIVE_SUFFIXES.

    Raises:
        ValueError: The archive is damaged.
    """
    return ZipFiles(path) if path.name.lower().endswith(".zip") else TarFiles(path)
