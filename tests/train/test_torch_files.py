from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from sasa.train.torch_files import load_torch_file


@pytest.mark.parametrize("zipped", [True, False])
def test_both_formats_of_torch_are_read(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"a": torch.arange(3)}, path, _use_new_zipfile_serialization=zipped)
    assert torch.equal(load_torch_file(path, "weights")["a"], torch.arange(3))


class Harm:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("format", ["zip", "legacy", "pickle"])
def test_no_code_is_run(tmp_path: Path, format: str) -> None:
    path, harm = tmp_path / "weights.pth", {"state_dict": Harm(tmp_path / "harm")}
    if format == "pickle":
        path.write_bytes(pickle.dumps(harm, protocol=2))
    else:
        torch.save(harm, path, _use_new_zipfile_serialization=format == "zip")
    with pytest.raises(ValueError, match=r"expected weights, got a pickle that refers to code, posix\.mkdir"):
        load_torch_file(path, "weights")
    assert not (tmp_path / "harm").exists()


def test_a_whole_network_is_code(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(1, 1), tmp_path / "whole.pt")
    with pytest.raises(ValueError, match=r"code, torch\.nn\.modules\.linear\.Linear, .*\.state_dict\(\)"):
        load_torch_file(tmp_path / "whole.pt", "weights")


def test_damaged_files(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"a": torch.zeros(64)}, path)
    content = path.read_bytes()
    path.write_bytes(content[:-100])
    with pytest.raises(ValueError, match=r"weights\.pth: expected weights, got a damaged file"):
        load_torch_file(path, "weights")
    flipped = bytearray(content)
    flipped[content.index(bytes(256))] = 1
    path.write_bytes(flipped)
    with pytest.raises(ValueError, match=r"got a damaged file: wrong checksum of .*data/0"):
        load_torch_file(path, "weights")


def test_members_that_unpack_to_any_size(tmp_path: Path) -> None:
    path, packed = tmp_path / "weights.pth", tmp_path / "packed.pth"
    torch.save({"a": torch.zeros(64)}, path)
    with zipfile.ZipFile(path) as whole, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in whole.namelist():
            archive.writestr(name, whole.read(name))
    with pytest.raises(ValueError, match=r"got a damaged file: .*data\.pkl is compressed"):
        load_torch_file(packed, "weights")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("zipped", [True, False])
def test_any_damage_is_a_value_error(tmp_path: Path, zipped: bool) -> None:
    """Of each byte of the pickle in turn; the checksums of the zip are those of the damaged one."""
    path = tmp_path / "weights.pth"
    torch.save({"a": torch.zeros(3), "b": 2}, path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    members = {}
    if zipped:
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
    pickled = next((name for name in members if name.endswith("data.pkl")), "")
    original = members[pickled] if zipped else content
    errors = []
    for index in range(0, len(original), 1 if zipped else 3):
        damaged = bytearray(original)
        damaged[index] ^= 0x15
        if zipped:
            with zipfile.ZipFile(path, "w") as archive:
                for name, value in (members | {pickled: bytes(damaged)}).items():
                    archive.writestr(name, value)
        else:
            path.write_bytes(damaged)
        try:
            load_torch_file(path, "weights")
        except ValueError as error:
            errors.append(str(error))
    assert len(errors) > 20
    assert all(error.startswith(f"{path}: expected weights, got ") for error in errors)
