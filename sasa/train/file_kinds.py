"""What a file is that was given as weights, by its first bytes."""

from __future__ import annotations

import zipfile
from pathlib import Path

STATE_DICT = "a file of torch.save"
SAFETENSORS = "a safetensors file"
LIGHTNING = "a checkpoint of Lightning"
DAMAGED = "a damaged file of torch.save"

_HTML = "an HTML page, such as the error page of a failed download"
_STARTS = {
    b"<!doctype html": _HTML,
    b"<html": _HTML,
    b"version https://git-lfs": "a pointer of Git LFS in place of the file (run git lfs pull)",
    b"\x89hdf": "an HDF5 file, as Keras writes it",
    b"\x1f\x8b": "a gzip file (unpack it)",
}


def file_kind(path: Path) -> str:
    """The kind of a file in words for an error message, such as STATE_DICT or "an HTML page".

    Args:
        path: The file.
    """
    with path.open("rb") as file:
        head = file.read(1024)
    if head.startswith(b"PK\x03\x04"):
        return _kind_of_zip(path)
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return STATE_DICT
    if head[8:9] == b"{":
        return SAFETENSORS
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for start, kind in _STARTS.items():
        if text.startswith(start):
            return kind
    # An ONNX model starts with its version (field 1, a small number) and a text, the graph or the opsets.
    if head[:1] == b"\x08" and head[1:2] < b"\x40" and head[2:3] in (b"\x12", b"\x1a", b"\x3a", b"\x42"):
        return "an ONNX model"
    return "another file" if head else "an empty file"


def _kind_of_zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            members = {name.rpartition("/")[2]: name for name in archive.namelist()}
            if "constants.pkl" in members:
                return "a TorchScript program"
            if "data.pkl" not in members:
                return "a zip archive"
            with archive.open(members["data.pkl"]) as file:
                return LIGHTNING if b"pytorch-lightning_version" in file.read(2**24) else STATE_DICT
    except zipfile.BadZipFile:
        return DAMAGED
