"""Files of a folder or an archive, whatever they hold."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest

from sasa.data.archives import ArchiveFiles, open_archive
from sasa.data.folders import FolderFiles
from sasa.data.images import BrokenImageError

KINDS = {"tar": ".tar", "gztar": ".tar.gz", "zip": ".zip"}
CONTENT = {"a/list.txt": b"one", "a/empty": b"", "b/c/large": bytes(range(256)) * 40, "top": b"top"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "files"
    for name, data in {**CONTENT, ".hidden/x": b"no"}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    (root / "d").mkdir()
    return root


def open_files(folder: Path, kind: str | None) -> FolderFiles | ArchiveFiles:
    return FolderFiles(folder) if kind is None else open_archive(pack(folder, kind))


def pack(folder: Path, kind: str) -> Path:
    return Path(shutil.make_archive(str(folder), kind, folder))


@pytest.mark.parametrize("kind", [None, *KINDS])
def test_list_read_and_keep(folder: Path, kind: str | None) -> None:
    files = open_files(folder, kind)
    assert sorted(files.files) == sorted(CONTENT)
    assert {"a", "b", "b/c", "d"} <= files.folders
    assert not any("hidden" in name for name in files.folders)
    assert dict(files.read_each(["top", "a/list.txt"])) == {"top": b"top", "a/list.txt": b"one"}
    files.keep_only(["b/c/large", "a/empty"])
    assert files.files == ["b/c/large", "a/empty"]
    assert not files.folders
    assert files.read("b/c/large") == CONTENT["b/c/large"]
    assert files.read("a/empty") == b""
    assert files.name("a/empty").endswith(f"{KINDS[kind]}:a/empty" if kind else "files/a/empty")


@pytest.mark.parametrize("kind", ["tar", "gztar"])
def test_links_are_refused_when_wanted(folder: Path, kind: str) -> None:
    (folder / "link").symlink_to("top")
    files = open_archive(pack(folder, kind))
    assert "link" in files.files
    assert dict(files.read_each(["top"])) == {"top": b"top"}
    for use in (files.keep_only, lambda names: dict(files.read_each(names))):
        with pytest.raises(ValueError, match="got the link or sparse member 'link'; pack"):
            use(["top", "link"])


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_of_files_of_one_name_the_last_counts(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("twice.tar" if mode == "w" else "twice.tar.gz")
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for data in (b"first", b"the second", b"third"):
            member = tarfile.TarInfo("name")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    files = open_archive(path)
    assert dict(files.read_each(["name"])) == {"name": b"third"}
    files.keep_only(["name"])
    assert files.read("name") == b"third"


def test_nothing_kept_of_a_compressed_tar(folder: Path) -> None:
    files = open_archive(pack(folder, "gztar"))
    files.keep_only([])
    assert files.files == []


@pytest.mark.parametrize("target", [".", "..", "../.."])
def test_links_in_a_circle_are_refused(folder: Path, target: str) -> None:
    (folder / "a" / "loop").symlink_to(target)
    with pytest.raises(ValueError, match=r"a/loop: expected a folder .*, got a link to .* contains it"):
        FolderFiles(folder)


def test_a_link_to_another_folder_is_followed(folder: Path) -> None:
    (folder / "a" / "link").symlink_to("../b")
    assert "a/link/c/large" in FolderFiles(folder).files


@pytest.mark.parametrize("kind", [None, *KINDS])
def test_the_files_stay_when_the_working_directory_changes(
    folder: Path, kind: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder if kind is None else pack(folder, kind)
    monkeypatch.chdir(folder.parent)
    relative = Path(path.name)
    files = FolderFiles(relative) if kind is None else open_archive(relative)
    files.keep_only(["top"])
    elsewhere = folder.parent / "elsewhere"
    shutil.copytree(folder, elsewhere / "files")
    (elsewhere / "files" / "top").write_bytes(b"another")
    if kind is not None:
        pack(elsewhere / "files", kind)
    monkeypatch.chdir(elsewhere)
    assert files.read("top") == b"top"


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_a_replaced_archive_is_refused_or_not_seen(folder: Path, kind: str) -> None:
    files = open_archive(pack(folder, kind))
    files.keep_only(["top"])
    (folder / "top").write_bytes(b"new")
    (folder / "another").write_bytes(b"x" * 2000)
    replaced = Path(shutil.make_archive(str(folder.parent / "new"), kind, folder))
    os.replace(replaced, files.location)
    if kind == "zip":  # still open
        assert files.read("top") == b"top"
    else:
        with pytest.raises(ValueError, match="got one that was changed or replaced since then"):
            files.read("top")
    fresh = open_archive(Path(files.location))
    fresh.keep_only(["top"])
    assert fresh.read("top") == b"new"


def test_a_tar_cut_between_two_members_is_refused(folder: Path) -> None:
    path = pack(folder, "tar")
    with tarfile.open(path) as archive:
        starts = [member.offset for member in archive][1:]
        end = archive.offset
    content = path.read_bytes()
    for cut in (*starts, end):
        path.write_bytes(content[:cut])
        with pytest.raises(ValueError, match=r"cannot read the archive: expected two blocks of zeros.* byte"):
            open_archive(path)
    path.write_bytes(content[: end + 1024])
    assert sorted(open_archive(path).files) == sorted(CONTENT)


def test_a_damaged_header_within_a_tar_is_refused(folder: Path) -> None:
    path = pack(folder, "tar")
    with tarfile.open(path) as archive:
        start = [member.offset for member in archive][2]
    content = bytearray(path.read_bytes())
    content[start + 5] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="cannot read the archive"):
        open_archive(path)


@pytest.mark.parametrize("kind", ["gztar", "bztar", "xztar"])
def test_a_flipped_byte_of_a_compressed_tar_changes_nothing_in_silence(folder: Path, kind: str) -> None:
    path = pack(folder, kind)
    content = path.read_bytes()
    refused = 0
    for position in range(10, len(content), max(1, len(content) // 50)):
        path.write_bytes(content[:position] + bytes([content[position] ^ 4]) + content[position + 1 :])
        try:
            files = open_archive(path)
        except ValueError:
            refused += 1
        else:
            assert dict(files.read_each(list(CONTENT))) == CONTENT
    assert refused > 25


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_too_large_to_unpack_is_refused(
    folder: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sasa.data.packed_files.MAX_FILE_BYTES", 1000)
    files = open_archive(pack(folder, kind))
    for use in (lambda names: dict(files.read_each(names)), files.keep_only):
        with pytest.raises(ValueError, match=r"b/c/large: expected at most 1,000 bytes per file .* 10,240"):
            use(["top", "b/c/large"])


@pytest.mark.parametrize(
    ("offset", "value", "reason"),
    [(8, 9, "is compressed by Deflate64"), (8, 77, "is compressed by method 77"), (6, 1, "is encrypted")],
)
def test_zips_that_python_cannot_read_are_refused(folder: Path, offset: int, value: int, reason: str) -> None:
    path = pack(folder, "zip")
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        position = archive.start_dir
        for info in archive.infolist():
            if info.filename == "top":
                break
            position += 46 + len(info.filename) + len(info.extra) + len(info.comment)
    content[position + offset + 2] = value  # the entry of the directory has two bytes more before it
    path.write_bytes(content)
    files = open_archive(path)
    for use in (lambda names: dict(files.read_each(names)), files.keep_only):
        with pytest.raises(ValueError, match=rf"'top', which {reason}; .*pack it again"):
            use(["top"])


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_member_of_a_zip_is_a_broken_image(tmp_path: Path, method: int) -> None:
    path = tmp_path / "damaged.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("file", bytes(range(256)) * 40)
        start = archive.infolist()[0].header_offset + 30 + len("file")
    content = bytearray(path.read_bytes())
    for position in range(start + 8, start + 24):
        content[position] ^= 0xFF
    path.write_bytes(content)
    files = open_archive(path)
    files.keep_only(["file"])
    with pytest.raises(BrokenImageError, match=r"damaged\.zip:file: broken image"):
        files.read("file")
