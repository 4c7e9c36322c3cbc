"""sasa models."""

import pytest

from sasa.cli import main


def test_models_lists_all_with_their_cost(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 18
    assert "sasa_resnet50_conv       25.56 M parameters, 8.22 B FLOPs" in lines
    assert "sasav2_resnet50_hybrid   18.54 M parameters, 7.45 B FLOPs" in lines
