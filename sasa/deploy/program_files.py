"""Files of torch's own formats: exported programs, and packages compiled by AOTInductor."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
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


def load_program(path: Path) -> Callable[[Tensor], list[Tensor]]:
    """The function of a program's file, from images to its outputs."""
    with path.open("rb") as file:
        module = torch.export.load(file).module()
    return lambda images: _listed(module(images))


def write_package(program: ExportedProgram, path: Path, metadata: Mapping[str, str]) -> None:
    """Compile a program for this machine, with the metadata as AOTInductor's own."""
    torch._inductor.aoti_compile_and_package(
        program, package_path=str(path), inductor_configs={"aot_inductor.metadata": dict(metadata)}
    )


def load_package(path: Path) -> Callable[[Tensor], list[Tensor]]:
    """The compiled function of a package, from images to its outputs."""
    package = torch._inductor.aoti_load_package(str(path))
    return lambda images: _listed(package(images))


def _listed(outputs: Tensor | Sequence[Tensor]) -> list[Tensor]:
    return [outputs] if isinstance(outputs, Tensor) else list(outputs)
