from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sasa.train.file_kinds import DAMAGED, LIGHTNING, SAFETENSORS, STATE_DICT, file_kind


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "an empty file"),
        (b"a text", "another file"),
        (b"\n <!DOCTYPE html><html>", "an HTML page"),
        (b"<html><body>404", "an HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "a pointer of Git LFS"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (b"\x1f\x8b\x08", "a gzip file"),
        (b"\x08\x08\x12\x07pytorch\x1a\x052.5.1:\xc1\x82\x01", "an ONNX model"),
        (b"\x08\x07:\x10", "an ONNX model"),
        (b"PK\x03\x04 cut", DAMAGED),
    ],
)
def test_kinds_by_content(tmp_path: Path, content: bytes, kind: str) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    assert file_kind(path).startswith(kind)


def test_kinds_that_libraries_write(tmp_path: Path) -> None:
    path = tmp_path / "model"
    save_file({"a": torch.zeros(1)}, path)
    assert file_kind(path) == SAFETENSORS
    for zipped in (True, False):
        torch.save({"a": torch.zeros(1)}, path, _use_new_zipfile_serialization=zipped)
        assert file_kind(path) == STATE_DICT
    torch.save({"state_dict": {}, "pytorch-lightning_version": "2.5"}, path)
    assert file_kind(path) == LIGHTNING


@pytest.mark.parametrize(
    ("members", "kind"),
    [(("m/data.pkl", "m/constants.pkl"), "a TorchScript program"), (("a.npy",), "a zip archive")],
)
def test_other_zips(tmp_path: Path, members: tuple[str, ...], kind: str) -> None:
    path = tmp_path / "model.pt"
    with zipfile.ZipFile(path, "w") as archive:
        for name in members:
            archive.writestr(name, b"")
    assert file_kind(path) == kind
