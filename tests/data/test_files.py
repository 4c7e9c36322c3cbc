"""Files of a folder or an archive, whatever they hold."""

from __future__ import annotations

import io
import shutil
import tarfile
from pathlib import Path

import pytest

from sasa.data.archives import ArchiveFiles, open_archive
from sasa.data.folders import FolderFiles

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
    assert files.read_all(["top", "a/list.txt"]) == {"top": b"top", "a/list.txt": b"one"}
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
    assert files.read_all(["top"]) == {"top": b"top"}
    for use in (files.keep_only, files.read_all):
        with pytest.raises(ValueError, match="got the link or sparse member 'link'; pack"):
            use(["top", "link"])  # type: ignore[operator]


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_of_files_of_one_name_the_last_counts(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("twice.tar" if mode == "w" else "twice.tar.gz")
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for data in (b"first", b"the second", b"third"):
            member = tarfile.TarInfo("name")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    files = open_archive(path)
    assert files.read_all(["name"]) == {"name": b"third"}
    files.keep_only(["name"])
    assert files.read("name") == b"third"


def test_nothing_kept_of_a_compressed_tar(folder: Path) -> None:
    files = open_archive(pack(folder, "gztar"))
    files.keep_only([])
    assert files.files == []
