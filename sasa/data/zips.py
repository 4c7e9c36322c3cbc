"""Files in a zip archive, read without unpacking it to disk."""

from __future__ import annotations

import lzma
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sasa.data.images import BrokenImageError
from sasa.data.packed_files import PackedFiles

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_OTHER_METHODS = {9: "Deflate64", 93: "Zstandard", 95: "xz", 98: "PPMd", 99: "AES encryption"}
_ENCRYPTED, _PATCHED = 0x1, 0x20

# What zipfile raises for damaged directories, headers and members.
_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,
    ValueError,
    NotImplementedError,
    OverflowError,
)

# What one read decompresses from bzip2 and LZMA has no limit but the size of what is read.
_CHUNK = 4096


class ZipFiles(PackedFiles):
    """The files of a .zip, without hidden ones, read one at a time.

    Args:
        path: An existing file.

    Raises:
        ValueError: The archive is damaged.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        # One open archive per process: forked workers must not share a file position.
        self._opened: tuple[int, zipfile.ZipFile] | None = None
        try:
            infos = self._archive().infolist()
        except _ERRORS as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise ValueError(
                f"{self.location}: cannot read the archive: {error}; copy or pack it again"
            ) from error
        # The last of several members of one name counts.
        self._members = {_slashes(info): info for info in infos}
        names = list(self._members)
        self._set_names(
            [name for name in names if not name.endswith("/")],
            [name.rstrip("/") for name in names if name.endswith("/")],
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}

    def _archive(self) -> zipfile.ZipFile:
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = os.getpid(), zipfile.ZipFile(self._path)
        archive = self._opened[1]
        assert archive.fp is not None, "it is never closed"
        self._require_same(archive.fp)
        return archive

    def _require_readable(self, names: Sequence[str]) -> None:
        """Raise ValueError for members that are known beforehand to be unreadable."""
        for name in names:
            info = self._members[name]
            self._require_size(name, info.file_size)
            if info.flag_bits & _ENCRYPTED:
                reason = "is encrypted"
            elif info.compress_type not in _METHODS:
                method = _OTHER_METHODS.get(info.compress_type, f"method {info.compress_type}")
                reason = f"is compressed by {method}"
            elif info.flag_bits & _PATCHED:
                reason = "is a patch of another file"
            elif stat.S_ISLNK(info.external_attr >> 16):
                reason = "is a link"
            else:
                continue
            raise ValueError(
                f"{self.location}: expected files that are stored or compressed by deflate, bzip2 or LZMA, "
                f"got {name!r}, which {reason}; unpack it and pack it again, as by "
                "python -m zipfile -c NEW.zip FOLDER"
            )

    def keep_only(self, names: Sequence[str]) -> None:
        """Prepare some of the files for `read` and forget all others.

        Raises:
            ValueError: One of them is encrypted, compressed by a method that Python does not read, a link, or
                too large.
        """
        self._require_readable(names)
        self.files, self.folders = list(names), set()
        self._members = {name: self._members[name] for name in names}

    def read_each(self, names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """Names and contents of some files, before `keep_only`.

        Raises:
            ValueError: As for `keep_only`, or one of them is damaged.
        """
        self._require_readable(names)
        for name in names:
            yield name, self._read(name, self._members[name].file_size)

    def read(self, file: str) -> bytes:
        """The content of a file that was kept.

        Raises:
            BrokenImageError: It is damaged; the message names it.
            OSError: The archive cannot be read.
            ValueError: The archive was changed.
        """
        return self._read(file, self._members[file].file_size)

    def _read(self, name: str, length: int) -> bytes:
        """The content of a member up to a length; reading to the end verifies its checksum."""
        info = self._members[name]
        archive = self._archive()
        whole = info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
        parts: list[bytes] = []
        try:
            with archive.open(info) as file:
                while length > 0 and (part := file.read(length if whole else min(length, _CHUNK))):
                    parts.append(part)
                    length -= len(part)
        except _ERRORS as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise BrokenImageError(f"{self.name(name)}: broken image: {error}") from error
        return b"".join(parts)


def _slashes(info: zipfile.ZipInfo) -> str:
    """The name of a member; some tools for Windows write backslashes."""
    name = info.filename.replace("\\", "/") if info.create_system == 0 else info.filename
    return name.removeprefix("./")
