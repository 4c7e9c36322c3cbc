"""sasa models."""

import pytest

from sasa.cli import main


def test_models_lists_all_nine_with_their_cost(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 9
    assert "sasa_resnet50_conv       25.56 M parameters, 8.22 B FLOPs" in lines
