"""Files are replaced whole or not at all."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from sasa.train.atomic import replacing, write_json


def test_a_file_is_replaced(tmp_path: Path) -> None:
    for content in ({"a": 1}, {"b": 2}):
        write_json(content, tmp_path / "x.json")
    assert (tmp_path / "x.json").read_text() == '{\n  "b": 2\n}\n'
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


def fail(file: Path, error: BaseException) -> None:
    """Write a part of a file, then fail."""
    with replacing(file) as temporary:
        temporary.write_text("half")
        raise error


def test_a_full_disk_names_the_file_and_leaves_the_old_one(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_text("old")
    with pytest.raises(OSError, match=r"No space left on device: '.*/x'"):
        fail(file, OSError(errno.ENOSPC, "No space left on device"))
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_any_other_error_removes_the_temporary_file_too(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fail(tmp_path / "x", KeyboardInterrupt())
    assert not list(tmp_path.iterdir())
