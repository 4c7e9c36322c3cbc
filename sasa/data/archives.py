"""Files in a tar or zip archive, read without unpacking it to disk."""

from __future__ import annotations

import contextlib
import functools
import os
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch

from sasa.data.images import BrokenImageError
from sasa.data.layout import is_hidden, parent_folders

_COMPRESSED_TAR = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
ARCHIVE_SUFFIXES = (".tar", ".zip", *_COMPRESSED_TAR)

# A compressed tar has no random access, so its images are kept in memory.
MAX_COMPRESSED_BYTES = 8 * 2**30


class ArchiveFiles:
    """The files of a .tar, compressed .tar or .zip, without hidden ones.

    The files of a plain tar or a zip are read one at a time. Those of a compressed tar are held in memory, in
    one tensor that loader processes share.

    Args:
        path: An existing file whose name ends in one of ARCHIVE_SUFFIXES.

    Attributes:
        location: The path of the archive.
        files: Names of the files; after `keep_only`, of those kept.
        folders: Names of the folders at any depth, also of empty ones; empty after `keep_only`.

    Raises:
        ValueError: The archive is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.location = str(path)
        self._compressed = path.name.lower().endswith(_COMPRESSED_TAR)
        # Offset and size of each regular file in a tar, None for links; None for a zip.
        self._extents: dict[str, tuple[int, int] | None] | None = None
        self._memory: torch.Tensor | None = None
        with self._archive_errors():
            if path.name.lower().endswith(".zip"):
                with zipfile.ZipFile(path) as archive:
                    infos = archive.infolist()
                files = [info.filename for info in infos if not info.is_dir()]
                folders = [info.filename.rstrip("/") for info in infos if info.is_dir()]
            else:
                files, folders = self._index_tar()
        self.files = [name for name in files if not is_hidden(name)]
        self.folders = {name for name in folders if not is_hidden(name)}
        self.folders |= parent_folders([*self.files, *self.folders])

    @contextlib.contextmanager
    def _archive_errors(self) -> Iterator[None]:
        """Raise errors of a damaged archive as a ValueError with its path."""
        try:
            yield
        except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise ValueError(f"{self.location}: cannot read the archive: {error}") from error

    def _open_tar(self) -> tarfile.TarFile:
        return tarfile.open(self.location, "r:*" if self._compressed else "r:")

    def _index_tar(self) -> tuple[list[str], list[str]]:
        self._extents = {}
        folders = []
        with self._open_tar() as archive:
            for member in archive:
                name = member.name.removeprefix("./")
                if member.isdir():
                    folders.append(name)
                else:
                    regular = member.isreg() and not member.issparse()
                    self._extents[name] = (member.offset_data, member.size) if regular else None
        return list(self._extents), folders

    def keep_only(self, names: Sequence[str]) -> None:
        """Prepare some of the files for `read` and forget all others.

        Raises:
            ValueError: One of them is a link, or they exceed MAX_COMPRESSED_BYTES in a compressed tar.
        """
        self.files, self.folders = list(names), set()
        if self._extents is None:
            return
        extents = {name: self._extent(name) for name in names}
        self._extents = dict(extents)
        if not self._compressed:
            return
        size = sum(length for _, length in extents.values())
        if size > MAX_COMPRESSED_BYTES:
            raise ValueError(
                f"{self.location}: expected at most {MAX_COMPRESSED_BYTES:,} bytes per split of a compressed "
                f"tar, which is read into memory, got {size:,}; unpack it, or use a plain .tar or a .zip"
            )
        memory = bytearray(size)
        start = 0
        for name, data in self._read_tar(extents):
            memory[start : start + len(data)] = data
            self._extents[name] = (start, len(data))
            start += len(data)
        self._memory = (
            torch.frombuffer(memory, dtype=torch.uint8) if size else torch.empty(0, dtype=torch.uint8)
        )

    def _extent(self, name: str) -> tuple[int, int]:
        assert self._extents is not None, "of a tar only"
        extent = self._extents[name]
        if extent is None:
            raise ValueError(
                f"{self.location}: expected regular files, got the link or sparse member {name!r}; pack the "
                "archive with tar --dereference --hard-dereference"
            )
        return extent

    def _read_tar(self, extents: Mapping[str, tuple[int, int]]) -> Iterator[tuple[str, bytes]]:
        """Names and contents of files of a tar, in the order of the archive."""
        with self._archive_errors(), self._open_tar() as archive:
            for member in archive:
                name = member.name.removeprefix("./")
                # The last of several members of one name counts, as for tar.
                if name in extents and member.offset_data == extents[name][0]:
                    file = archive.extractfile(member)
                    assert file is not None, "links were refused before"
                    yield name, file.read()

    def read_all(self, names: Sequence[str]) -> dict[str, bytes]:
        """The contents of files in one pass, before `keep_only`; ValueError if one is a link or damaged."""
        if self._extents is not None:
            return dict(self._read_tar({name: self._extent(name) for name in names}))
        with self._archive_errors(), zipfile.ZipFile(self.location) as archive:
            return {name: archive.read(name) for name in names}

    def name(self, file: str) -> str:
        """Archive and file, "data.tar:NAME/train/cat/1.jpg"."""
        return f"{self.location}:{file}"

    def read(self, file: str) -> bytes:
        """The content of a file that was kept; raises OSError or BrokenImageError, which names the file."""
        if self._extents is None:
            try:
                return _open_zip(self.location, os.getpid()).read(file)
            except (zipfile.BadZipFile, zlib.error, EOFError) as error:
                raise BrokenImageError(f"{self.name(file)}: broken image: {error}") from error
        start, size = self._extent(file)
        if self._memory is not None:
            return self._memory[start : start + size].numpy().tobytes()
        with open(self.location, "rb") as archive:
            archive.seek(start)
            return archive.read(size)


@functools.lru_cache(maxsize=8)
def _open_zip(path: str, pid: int) -> zipfile.ZipFile:
    """One open archive per process: forked workers must not share a file position."""
    return zipfile.ZipFile(path)
