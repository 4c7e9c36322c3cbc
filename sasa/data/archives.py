"""Images inside a tar or zip archive, read without unpacking it to disk."""

from __future__ import annotations

import functools
import os
import tarfile
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

import torch
from PIL import Image

from sasa.data.images import BrokenImageError, decode_image
from sasa.data.layout import find_split, is_hidden, label_files, parent_folders

_COMPRESSED_TAR = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
ARCHIVE_SUFFIXES = (".tar", ".zip", *_COMPRESSED_TAR)

# A compressed tar has no random access, so its images are kept in memory.
MAX_COMPRESSED_BYTES = 8 * 2**30


class ArchiveImages:
    """The images of one split of a .tar, compressed .tar or .zip in ImageNet's layout.

    The split may lie below a chain of single folders, as in NAME/train/CLASS/IMAGE. A plain tar and
    a zip are read one image at a time; of a compressed tar the split's files are held in memory,
    in one tensor that loader processes share.

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
        self._path = path
        try:
            if path.name.lower().endswith(".zip"):
                self._index_zip(split)
            else:
                self._index_tar(split)
        except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise ValueError(f"{path}: cannot read the archive: {error}") from error

    def _index_zip(self, split: str | None) -> None:
        self._spans: list[tuple[int, int]] | None = None
        with zipfile.ZipFile(self._path) as archive:
            infos = archive.infolist()
        self._select(
            (info.filename for info in infos if not info.is_dir()),
            (info.filename.rstrip("/") for info in infos if info.is_dir()),
            split,
        )

    def _index_tar(self, split: str | None) -> None:
        compressed = self._path.name.lower().endswith(_COMPRESSED_TAR)
        with tarfile.open(self._path, "r:*" if compressed else "r:") as archive:
            members = {member.name.removeprefix("./"): member for member in archive}
            files = [name for name, member in members.items() if not member.isdir()]
            self._select(files, (name for name, m in members.items() if m.isdir()), split)
            picked = [members[member] for member in self._members]
            links = [member.name for member in picked if not member.isreg() or member.issparse()]
            if links:
                raise ValueError(
                    f"{self._path}: image {links[0]!r} is a link or sparse member; pack the "
                    "archive with tar --dereference --hard-dereference"
                )
            if compressed:
                self._keep(archive, picked)
            else:
                self._spans = [(member.offset_data, member.size) for member in picked]

    def _keep(self, archive: tarfile.TarFile, picked: list[tarfile.TarInfo]) -> None:
        size = sum(member.size for member in picked)
        if size > MAX_COMPRESSED_BYTES:
            raise ValueError(
                f"{self._path}: a compressed tar is read into memory and this split holds "
                f"{size:,} bytes, more than {MAX_COMPRESSED_BYTES:,}; unpack it, or use a plain "
                ".tar or a .zip"
            )
        store = bytearray(size)
        spans: dict[str, tuple[int, int]] = {}
        start = 0
        for member in sorted(picked, key=lambda member: member.offset_data):
            file = archive.extractfile(member)
            assert file is not None, "only regular members are picked"
            store[start : start + member.size] = file.read()
            spans[member.name] = (start, member.size)
            start += member.size
        self._spans = [spans[member.name] for member in picked]
        self._store = torch.frombuffer(store, dtype=torch.uint8)

    def _select(self, files: Iterable[str], folders: Iterable[str], split: str | None) -> None:
        """Find the split among all members; sets where, classes, targets and _members."""
        files = [name for name in files if not is_hidden(name)]
        folders = {name for name in folders if not is_hidden(name)}
        folders |= parent_folders([*files, *folders])
        base = find_split(folders, split, str(self._path))
        self.where = f"{self._path}:{base}" if base else str(self._path)
        prefix = f"{base}/" if base else ""
        self.classes, samples = label_files(
            (name.removeprefix(prefix) for name in files if name.startswith(prefix)),
            (name.removeprefix(prefix) for name in folders if name.startswith(prefix)),
            self.where,
        )
        self.targets = [label for _, label in samples]
        self._members = [prefix + name for name, _ in samples]

    def name(self, index: int) -> str:
        """Archive and member of one image, "data.tar:NAME/train/cat/1.jpg"."""
        return f"{self._path}:{self._members[index]}"

    def load(self, index: int) -> Image.Image:
        """Decode one image as stored; raises OSError or BrokenImageError naming the file."""
        return decode_image(self._read(index), self.name(index))

    def _read(self, index: int) -> bytes:
        if self._spans is None:
            try:
                return _open_zip(str(self._path), os.getpid()).read(self._members[index])
            except (zipfile.BadZipFile, zlib.error, EOFError) as error:
                raise BrokenImageError(f"{self.name(index)}: broken image: {error}") from error
        start, size = self._spans[index]
        if hasattr(self, "_store"):
            return self._store[start : start + size].numpy().tobytes()
        with open(self._path, "rb") as file:
            file.seek(start)
            return file.read(size)


@functools.lru_cache(maxsize=8)
def _open_zip(path: str, pid: int) -> zipfile.ZipFile:
    """One open archive a process: forked workers must not share a file position."""
    return zipfile.ZipFile(path)
