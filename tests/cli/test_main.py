from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

import sasa.cli
from sasa.cli import COMMANDS, main


def failing_with(error: BaseException) -> SimpleNamespace:
    def run(args: object) -> None:
        raise error

    return SimpleNamespace(HELP="fails", add_arguments=lambda parser: None, run=run)


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_overview_lists_every_command(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    output = capsys.readouterr().out
    for name in COMMANDS:
        assert f"\n  {name} " in output


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    assert f"usage: sasa {name}" in capsys.readouterr().out


def test_unknown_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trian"]) == 2
    assert capsys.readouterr().err == "sasa: error: unknown command 'trian'; did you mean 'train'?\n"


def test_faulty_arguments_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "--nothing", "x"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("sasa: error: ")
    assert error.endswith("see sasa eval --help\n")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["eval", "--batch-size", "8"], "--batch_size"),
        (["eval", "--batch-size=8"], "--batch_size"),
        (["detect", "predict", "x.png", "--run", "x", "--min-score", "0.5"], "--min_score"),
        (["ablate", "table5", "--dry-run"], "--dry_run"),
        (["train", "--optimizer.batch-size", "8"], "optimizer.batch_size"),
    ],
)
def test_an_unknown_option_names_the_nearest(
    arguments: list[str], meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.endswith(f"; did you mean '{meant}'?\n")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("bad\nvalue"), "bad value"),
        (FileNotFoundError("no such thing"), "no such thing"),
        (ModuleNotFoundError('needs the package: pip install ".[train]"'), "needs the package: pip"),
        (FloatingPointError("the loss is nan"), "the loss is nan"),
        (KeyError("x"), "KeyError: 'x' (sasa --debug shows the traceback)"),
    ],
)
def test_errors_are_one_line_and_exit_code_2(
    error: Exception, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sasa.cli, "_command", lambda name: failing_with(error))
    assert main(["eval"]) == 2
    output = capsys.readouterr().err
    assert output.startswith(f"sasa: error: {line}")
    assert output.count("\n") == 1
    for arguments in (["--debug", "eval"], ["eval", "--debug"]):
        assert main(arguments) == 2
        output = capsys.readouterr().err
        assert "Traceback" in output
        assert output.rstrip().splitlines()[-1].startswith(f"sasa: error: {line[:8]}")


def test_interrupt_is_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sasa.cli, "_command", lambda name: failing_with(KeyboardInterrupt()))
    assert main(["eval"]) == 130
    assert capsys.readouterr().err == "sasa: interrupted\n"


def test_interrupted_training_is_130_and_can_be_resumed(tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-m", "sasa.cli", "train", "--model.name", "test_resnet", "--run", str(run)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background job ignores the signal, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 120
    while not list(run.glob("tensorboard/events*")) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.1)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.endswith("sasa: interrupted\n")
    assert "Traceback" not in errors
    assert (run / "config.yaml").is_file()
