"""Files of torch.save, read without running code."""

from __future__ import annotations

import pickle
import re
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import torch

from sasa.train.file_kinds import DAMAGED, LIGHTNING, STATE_DICT, file_kind

# What torch.load raises for files with random changes; an OSError of the disk is not one of them.
LOAD_ERRORS: tuple[type[Exception], ...] = (
    RuntimeError,
    pickle.UnpicklingError,
    EOFError,
    zipfile.BadZipFile,
    zlib.error,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    AssertionError,
    OverflowError,
    struct.error,
)


def load_torch_file(path: Path, expected: str) -> Any:
    """The content of a file of torch.save, read with weights_only, with tensors on the CPU.

    Args:
        path: The file.
        expected: What it should be, for the error message.

    Raises:
        ValueError: The file is of another kind or damaged, or refers to code, which is not run.
    """
    kind = file_kind(path)
    if kind not in (STATE_DICT, LIGHTNING, DAMAGED):
        raise ValueError(f"{path}: expected {expected}, got {kind}")
    try:
        if zipfile.is_zipfile(path):
            _check_archive(path)
        with path.open("rb") as file:  # newer torch takes some names for other formats
            return torch.load(file, map_location="cpu", weights_only=True)
    except LOAD_ERRORS as error:
        if code := re.search(r"GLOBAL (\S+)", str(error)):
            raise ValueError(
                f"{path}: expected {expected}, got a pickle that refers to code, {code[1]}, which is not "
                "run; save tensors by name where it comes from: torch.save(network.state_dict(), …)"
            ) from error
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise ValueError(f"{path}: expected {expected}, got a damaged file: {reason}") from error


def _check_archive(path: Path) -> None:
    """Raise ValueError for what torch.load takes: wrong checksums, and members that unpack to any size."""
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"{member.filename} is compressed, and torch.save compresses nothing")
        broken = archive.testzip()
    if broken is not None:
        raise ValueError(f"wrong checksum of {broken}")
