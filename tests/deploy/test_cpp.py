"""The C++ program of examples/cpp, which runs an AOTInductor package without Python."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from torch.utils.cpp_extension import include_paths, library_paths

import sasa

from ..models import networks
from ..ops.kernels import needs_kernels

EXAMPLE = Path(__file__).parents[2] / "examples" / "cpp"
LIBRARY = Path(sasa.__file__).with_name("_cpu.so")


def test_the_ops_are_those_of_python() -> None:
    text = (EXAMPLE / "sasa_ops.h").read_text(encoding="utf-8")
    definitions = [
        "".join(re.findall(r'"(.*?)"', call)) for call in re.findall(r"library\.def\((.*?)\);", text, re.S)
    ]
    assert len(definitions) == 4
    for definition in definitions:
        op = getattr(torch.ops.sasa, definition.partition("(")[0]).default
        assert f"sasa::{definition}" == str(op._schema)


@needs_kernels
@pytest.mark.skipif(not shutil.which("g++"), reason="there is no C++ compiler")
def test_the_program_computes_what_the_network_does(tmp_path: Path) -> None:
    model = networks.tiny()
    networks.randomize(model)
    package = sasa.export(model, tmp_path / "model.pt2", to="aoti", input_size=(3, 64, 64))
    folders = library_paths()
    command = ["g++", "-std=c++20", str(EXAMPLE / "classify.cpp"), "-o", str(tmp_path / "classify")]
    command += [f"-I{folder}" for folder in include_paths()]
    command += [flag for folder in folders for flag in (f"-L{folder}", f"-Wl,-rpath,{folder}")]
    command += ["-Wl,--no-as-needed", "-ltorch", "-ltorch_cpu", "-lc10", "-ldl"]
    subprocess.run(command, check=True)
    arguments = [tmp_path / "classify", package, LIBRARY, "3", "40", "72"]
    printed = subprocess.run(arguments, check=True, capture_output=True, text=True).stdout
    logits = torch.tensor([float(line) for line in printed.split()])
    expected = model(torch.linspace(0, 1, 3 * 40 * 72).view(1, 3, 40, 72))[0].detach()
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
