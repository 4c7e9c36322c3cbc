"""Files of torch's own formats: exported programs, and packages compiled by AOTInductor."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.export import ExportedProgram

METADATA = "sasa.json"
"""The name of the extra file with the metadata in a program's file."""


def write_program(program: ExportedProgram, path: Path, metadata: Mapping[str, str]) -> None:
    """Write a program, with the metadata as a JSON object in the extra file METADATA."""
    with path.open("wb") as file:  # torch warns about names that do not end in .pt2
        torch.export.save(program, file, extra_files={METADATA: json.dumps(dict(metadata))})


def load_program(path: Path) -> Callable[[Tensor], Tensor]:
    """The module of a program's file."""
    with path.open("rb") as file:
        return torch.export.load(file).module()


def write_package(program: ExportedProgram, path: Path, metadata: Mapping[str, str]) -> None:
    """Compile a program for this machine, with the metadata as AOTInductor's own."""
    torch._inductor.aoti_compile_and_package(
        program, package_path=str(path), inductor_configs={"aot_inductor.metadata": dict(metadata)}
    )


def load_package(path: Path) -> Callable[[Tensor], Tensor]:
    """The compiled function of a package."""
    return torch._inductor.aoti_load_package(str(path))
