"""The group of commands."""

from __future__ import annotations

import pytest

from sasa.cli import main
from sasa.cli.detect import COMMANDS


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["detect", "--help"]) == 0
    assert f"\n  {name} " in capsys.readouterr().out
    assert main(["detect", name, "--help"]) == 0
    assert f"usage: sasa detect {name}" in capsys.readouterr().out
