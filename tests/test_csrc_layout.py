"""An op's files in `csrc/` include those of `common/` and their own folder; `common/` includes no op's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

CSRC = Path(__file__).resolve().parents[1] / "csrc"
FILES = sorted(path.relative_to(CSRC) for path in CSRC.rglob("*") if path.is_file())


def includes(file: Path) -> set[Path]:
    """The files of csrc/ that a file includes, by a name relative to csrc/ or to its own folder."""
    text = (CSRC / file).read_text(encoding="utf-8")
    names = re.findall(r'^\s*#\s*include\s*["<](.+?)[">]', text, re.MULTILINE)
    paths = {(CSRC / folder / name).resolve() for name in names for folder in ("", file.parent)}
    return {path.relative_to(CSRC) for path in paths if path.is_file() and path.is_relative_to(CSRC)}


def test_every_file_is_in_a_folder_of_csrc() -> None:
    """setup.py and the Makefile look for the sources there."""
    assert {file.parent.as_posix() for file in FILES} == {"block_attention", "common", "local_attention"}


@pytest.mark.parametrize("file", FILES, ids=str)
def test_includes_only_its_own_folder_and_common(file: Path) -> None:
    found = includes(file)
    assert found or file.suffix == ".h"
    assert {path.parts[0] for path in found} <= {file.parts[0], "common"}
