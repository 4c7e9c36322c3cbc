"""Files in a tar archive, plain or compressed, read without unpacking it to disk."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, cast

import torch

from sasa.data.packed_files import PackedFiles

# A compressed tar has no random access, so its images are kept in memory.
MAX_COMPRESSED_BYTES = 8 * 2**30

# Headers are read into memory whole; those of real archives hold a few names.
_MAX_HEADER_BYTES = 2**20

_DECOMPRESSORS: dict[bytes, Callable[[IO[bytes]], Any]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\0": lzma.LZMAFile,
}

_ERRORS = (tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError, OverflowError)


class TarFiles(PackedFiles):
    """The files of a .tar or a compressed .tar, without hidden ones.

    The files of a plain tar are read one at a time. Those of a compressed tar are held in memory, in one
    tensor that loader processes share. All of a compressed tar is read at once, which verifies its checksums.

    Args:
        path: An existing file, plain or compressed by gzip, bzip2 or xz, whatever its name.

    Raises:
        ValueError: The archive is damaged or incomplete, or it continues behind its end.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        # Offset and size of each regular file, None for links.
        self._extents: dict[str, tuple[int, int] | None] = {}
        self._compressed = False
        self._memory: torch.Tensor | None = None
        folders = []
        with self._archive_errors(), self._open() as stream:
            with tarfile.open(fileobj=cast(Any, _HeaderReader(stream)), mode="r:") as archive:
                for member in archive:
                    name = member.name.removeprefix("./")
                    if member.isdir():
                        folders.append(name)
                    else:
                        regular = member.isreg() and not member.issparse()
                        # The last of several members of one name counts, as for tar.
                        self._extents[name] = (member.offset_data, member.size) if regular else None
                end = archive.offset
            _require_end(stream, end)
        self._set_names(self._extents, folders)

    @contextlib.contextmanager
    def _archive_errors(self) -> Iterator[None]:
        """Raise errors of a damaged archive as a ValueError with its path."""
        try:
            yield
        except _ERRORS as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            reason = str(error).removeprefix(f"{self.location}: ")
            raise ValueError(
                f"{self.location}: cannot read the archive: {reason}; copy or pack it again"
            ) from error

    @contextlib.contextmanager
    def _open(self) -> Iterator[IO[bytes]]:
        """The uncompressed bytes of the archive."""
        with open(self._path, "rb") as file, contextlib.ExitStack() as stack:
            self._require_same(file)
            start = file.read(6)
            file.seek(0)
            opened = [opener for magic, opener in _DECOMPRESSORS.items() if start.startswith(magic)]
            self._compressed = bool(opened)
            yield stack.enter_context(opened[0](file)) if opened else file

    def _extent(self, name: str) -> tuple[int, int]:
        extent = self._extents[name]
        if extent is None:
            raise ValueError(
                f"{self.location}: expected regular files, got the link or sparse member {name!r}; pack the "
                "archive with tar --dereference --hard-dereference"
            )
        return extent

    def _read(self, extents: Mapping[str, tuple[int, int]]) -> Iterator[tuple[str, bytes]]:
        """Names and contents of files, in the order of the archive."""
        for name, (_, size) in extents.items():
            self._require_size(name, size)
        with self._archive_errors(), self._open() as stream:
            for name, (start, size) in sorted(extents.items(), key=lambda item: item[1]):
                stream.seek(start)
                yield name, stream.read(size)

    def keep_only(self, names: Sequence[str]) -> None:
        """Prepare some of the files for `read` and forget all others.

        Raises:
            ValueError: One of them is a link or too large, or those of a compressed tar exceed
                MAX_COMPRESSED_BYTES.
        """
        self.files, self.folders = list(names), set()
        extents = {name: self._extent(name) for name in names}
        self._extents = dict(extents)
        for name, (_, size) in extents.items():
            self._require_size(name, size)
        if not self._compressed:
            return
        total = sum(size for _, size in extents.values())
        if total > MAX_COMPRESSED_BYTES:
            raise ValueError(
                f"{self.location}: expected at most {MAX_COMPRESSED_BYTES:,} bytes per split of a compressed "
                f"tar, which is read into memory, got {total:,}; unpack it, or use a plain .tar or a .zip"
            )
        memory = bytearray(total)
        start = 0
        for name, data in self._read(extents):
            memory[start : start + len(data)] = data
            self._extents[name] = (start, len(data))
            start += len(data)
        self._memory = (
            torch.frombuffer(memory, dtype=torch.uint8) if total else torch.empty(0, dtype=torch.uint8)
        )

    def read_each(self, names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """Names and contents of some files in one pass, before `keep_only`.

        Raises:
            ValueError: One of them is a link or too large, or the archive was changed.
        """
        yield from self._read({name: self._extent(name) for name in names})

    def read(self, file: str) -> bytes:
        """The content of a file that was kept; raises OSError, or ValueError if the archive was changed."""
        start, size = self._extent(file)
        if self._memory is not None:
            return self._memory[start : start + size].numpy().tobytes()
        with open(self._path, "rb") as archive:
            self._require_same(archive)
            archive.seek(start)
            return archive.read(size)


class _HeaderReader(io.RawIOBase):
    """Passes to tarfile what it needs for headers, and refuses sizes that no real header has."""

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__()
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"expected headers of at most {_MAX_HEADER_BYTES:,} bytes, got {size:,}")
        return self._stream.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        # tarfile reads the last byte of a member again, and never goes back further.
        if not self.tell() - 1 <= offset < 2**62:
            raise tarfile.ReadError(f"a header states a size that leads to byte {offset:,}")
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()


def _require_end(stream: IO[bytes], end: int) -> None:
    """Raise ReadError unless two blocks of zeros are at the end; read on, which verifies checksums."""
    stream.seek(end)
    blocks = stream.read(2 * tarfile.BLOCKSIZE)
    if blocks != bytes(2 * tarfile.BLOCKSIZE):
        got = "other data" if any(blocks) else f"{len(blocks)} bytes"
        raise tarfile.ReadError(
            f"expected two blocks of zeros, the end of a tar, at byte {end:,}, got {got}, so a part is "
            "missing or damaged"
        )
    while rest := stream.read(2**20):
        if any(rest):
            raise tarfile.ReadError(
                f"expected zeros after its end at byte {end:,}, got more data, as in tars joined by cat"
            )
