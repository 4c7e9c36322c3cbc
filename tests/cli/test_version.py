"""sasa version."""

import pytest
import torch

import sasa
from sasa.cli import main


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version"]) == 0
    out = capsys.readouterr().out
    assert f"sasa {sasa.__version__}, torch {torch.__version__}" in out
    assert "backends: cpu, triton, reference\nCPU kernels: " in out
    assert f", {torch.cuda.device_count()} CUDA device" in out.splitlines()[-1]
