"""sasa tables."""

import pytest

from sasa.cli import main


def test_tables_prints_the_tables_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tables", "--table", "6"]) == 0
    out = capsys.readouterr().out
    assert "Table 6." in out
    assert "Table 1." not in out
    assert "16.78" in out


def test_tables_prints_the_detectors_when_asked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sasa.detection.paper_table.render", lambda: "Table 2.")
    assert main(["tables", "--detection"]) == 0
    assert capsys.readouterr().out == "Table 2.\n"
    assert main(["tables", "--detection", "--table", "1"]) == 2
    assert "not allowed with" in capsys.readouterr().err


def test_tables_says_which_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tables", "--table", "2"]) == 2
    error = capsys.readouterr().err
    assert "expected one of [1, 3, 4, 5, 6, 7], got 2" in error
    assert "sasa tables --detection" in error
