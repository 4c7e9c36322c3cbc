"""Files and images inside a tar or zip archive, read without unpacking it to disk."""

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
from PIL import Image

from sasa.data.images import BrokenImageError, decode_image
from sasa.data.layout import find_split, is_hidden, label_files, parent_folders

_COMPRESSED_TAR = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
ARCHIVE_SUFFIXES = (".tar", ".zip", *_COMPRESSED_TAR)

# A compressed tar has no random access, so its images are kept in memory.
MAX_COMPRESSED_BYTES = 8 * 2**30


class ArchiveFiles:
    """The files of a .tar, compressed .tar or .zip, hidden ones left out, of which some are kept for reading.

    Of a plain tar and a zip they are read one at a time; those of a compressed tar are held in memory, in one
    tensor that loader processes share.

    Attributes:
        where: the archive's path.
        files: names of the files; after keep(), of those kept.
        folders: names of the folders, at any depth, empty ones too; none after keep().
    """

    def __init__(self, path: Path) -> None:
        """Index the archive; path is an existing file whose name ends in one of ARCHIVE_SUFFIXES.

        Raises:
            ValueError: the archive is damaged.
        """
        self.where = str(path)
        self._path = path
        self._compressed = path.name.lower().endswith(_COMPRESSED_TAR)
        # Offset and size of each regular file in a tar, None for links; None for a zip.
        self._spans: dict[str, tuple[int, int] | None] | None = None
        self._store: torch.Tensor | None = None
        with self._errors_named():
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
    def _errors_named(self) -> Iterator[None]:
        try:
            yield
        except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise ValueError(f"{self._path}: cannot read the archive: {error}") from error

    def _open_tar(self) -> tarfile.TarFile:
        return tarfile.open(self._path, "r:*" if self._compressed else "r:")

    def _index_tar(self) -> tuple[list[str], list[str]]:
        self._spans = {}
        folders = []
        with self._open_tar() as archive:
            for member in archive:
                name = member.name.removeprefix("./")
                if member.isdir():
                    folders.append(name)
                else:
                    regular = member.isreg() and not member.issparse()
                    self._spans[name] = (member.offset_data, member.size) if regular else None
        return list(self._spans), folders

    def keep(self, names: Sequence[str]) -> None:
        """Make some of the files ready for read() and forget the others.

        Raises:
            ValueError: one is a link, or a compressed tar holds over MAX_COMPRESSED_BYTES of them.
        """
        self.files, self.folders = list(names), set()
        if self._spans is None:
            return
        spans = {name: self._span(name) for name in names}
        self._spans = dict(spans)
        if not self._compressed:
            return
        size = sum(length for _, length in spans.values())
        if size > MAX_COMPRESSED_BYTES:
            raise ValueError(
                f"{self._path}: a compressed tar is read into memory and this split holds "
                f"{size:,} bytes, more than {MAX_COMPRESSED_BYTES:,}; unpack it, or use a plain "
                ".tar or a .zip"
            )
        store = bytearray(size)
        start = 0
        for name, data in self._members(spans):
            store[start : start + len(data)] = data
            self._spans[name] = (start, len(data))
            start += len(data)
        self._store = (
            torch.frombuffer(store, dtype=torch.uint8) if size else torch.empty(0, dtype=torch.uint8)
        )

    def _span(self, name: str) -> tuple[int, int]:
        assert self._spans is not None, "a zip has no spans"
        span = self._spans[name]
        if span is None:
            raise ValueError(
                f"{self._path}: {name!r} is a link or sparse member; pack the archive with "
                "tar --dereference --hard-dereference"
            )
        return span

    def _members(self, spans: Mapping[str, tuple[int, int]]) -> Iterator[tuple[str, bytes]]:
        """Names and contents of files of a tar, in the order in which they lie there."""
        with self._errors_named(), self._open_tar() as archive:
            for member in archive:
                name = member.name.removeprefix("./")
                # A name may come again: the last one counts, as for tar.
                if name in spans and member.offset_data == spans[name][0]:
                    file = archive.extractfile(member)
                    assert file is not None, "links are refused before"
                    yield name, file.read()

    def read_all(self, names: Sequence[str]) -> dict[str, bytes]:
        """Contents of some files in one pass, before keep(); ValueError for a damaged file or a link."""
        if self._spans is not None:
            return dict(self._members({name: self._span(name) for name in names}))
        with self._errors_named(), zipfile.ZipFile(self._path) as archive:
            return {name: archive.read(name) for name in names}

    def name(self, file: str) -> str:
        """Archive and file, "data.tar:NAME/train/cat/1.jpg"."""
        return f"{self._path}:{file}"

    def read(self, file: str) -> bytes:
        """The bytes of a file that was kept; raises BrokenImageError naming a damaged one, or OSError."""
        if self._spans is None:
            try:
                return _open_zip(str(self._path), os.getpid()).read(file)
            except (zipfile.BadZipFile, zlib.error, EOFError) as error:
                raise BrokenImageError(f"{self.name(file)}: broken image: {error}") from error
        start, size = self._span(file)
        if self._store is not None:
            return self._store[start : start + size].numpy().tobytes()
        with open(self._path, "rb") as archive:
            archive.seek(start)
            return archive.read(size)


class ArchiveImages:
    """The images of one split of a .tar, compressed .tar or .zip in ImageNet's layout.

    The split may lie below a chain of single folders, as in NAME/train/CLASS/IMAGE.

    Attributes:
        where: the archive and the split's folder inside it, "data.tar:NAME/train".
        classes: the class folders' names, sorted.
        targets: the label of each image, 0 <= label < len(classes).
    """

    def __init__(self, path: Path, split: str | None) -> None:
        """Index the archive; nothing is decoded.

        Args:
            path: an existing file whose name ends in one of ARCHIVE_SUFFIXES.
            split: the split's name, or None when the top holds the class folders.

        Raises:
            ValueError: the archive is damaged or holds image links, the split is missing, its
                layout is wrong (see label_files), or a compressed tar holds over
                MAX_COMPRESSED_BYTES of images.
        """
        self._files = files = ArchiveFiles(path)
        base = find_split(files.folders, split, files.where)
        self.where = files.name(base) if base else files.where
        prefix = f"{base}/" if base else ""
        self.classes, samples = label_files(
            (name.removeprefix(prefix) for name in files.files if name.startswith(prefix)),
            (name.removeprefix(prefix) for name in files.folders if name.startswith(prefix)),
            self.where,
        )
        self.targets = [label for _, label in samples]
        files.keep([prefix + name for name, _ in samples])

    def name(self, index: int) -> str:
        """Archive and member of one image, "data.tar:NAME/train/cat/1.jpg"."""
        return self._files.name(self._files.files[index])

    def load(self, index: int) -> Image.Image:
        """Decode one image as stored; raises OSError or BrokenImageError naming the file."""
        return decode_image(self._files.read(self._files.files[index]), self.name(index))


@functools.lru_cache(maxsize=8)
def _open_zip(path: str, pid: int) -> zipfile.ZipFile:
    """One open archive a process: forked workers must not share a file position."""
    return zipfile.ZipFile(path)
