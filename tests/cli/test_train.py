"""sasa train, and sasa eval of its run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sasa.cli import main
from sasa.train import load_config


def test_train_then_eval(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"model: {{name: test_resnet}}\ndata: {{source: {images}, input_size: 16, val_fraction: 0.2}}\n"
        "optimizer: {batch_size: 4, epochs: 3, lr_base: 20, warmup_epochs: 0}\n"
    )
    run = tmp_path / "run"
    command = ["train", "--config", str(recipe), "--run", str(run), "--optimizer.epochs", "1"]
    assert main(command) == 0
    output = capsys.readouterr()
    assert output.out.startswith("epoch 1/1: loss ")
    (score,) = (line for line in output.out.splitlines() if line.startswith("top-1 "))
    assert score.endswith(" on 12 images")
    assert output.err == ""
    assert load_config(run / "config.yaml").optimizer.epochs == 1
    results = json.loads((run / "results.json").read_text())

    report = tmp_path / "report.json"
    assert main(["eval", "--run", str(run), "--json", str(report)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"data: {images}, split test", "those that it was trained on"
    assert lines[1].startswith(f"top-1 {results['top1']:.2%}, loss")
    evaluated = json.loads(report.read_text())
    assert (evaluated["top1"], evaluated["images"], evaluated["split"]) == (results["top1"], 12, "test")

    assert main(["eval", "--run", str(run), "--data", str(images), "--split", "train"]) == 0
    assert capsys.readouterr().out.startswith(f"data: {images}, split train\n")
    assert main(["eval", "--run", str(run), "--option", "root"]) == 2
    assert "--option: expected KEY=VALUE, got 'root'" in capsys.readouterr().err
    assert main(["eval", "--run", str(run), "--data", "fashion-mnist"]) == 2, "other classes"
    assert "classes" in capsys.readouterr().err

    assert main(command) == 2
    assert "expected a folder without a run" in capsys.readouterr().err
    assert main(["train", "--resume", str(run)]) == 2
    assert "which is finished" in capsys.readouterr().err

    (run / "results.json").unlink()
    assert main(["train", "--resume", str(run)]) == 0
    output = capsys.readouterr()
    assert "resuming" in output.err
    assert "from epoch-0001" in output.err
    again = json.loads((run / "results.json").read_text())
    assert (again["top1"], again["loss"]) == (results["top1"], results["loss"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--optimizer.lrr", "1"], "--optimizer.lrr: unknown key; did you mean 'optimizer.lr'?"),
        (["--optimizer.lr", "x"], 'key "optimizer.lr"'),
        (["--config", "nowhere.yaml"], "--config: expected a YAML file, got nowhere.yaml"),
        (["--resume"], "--resume: expected a run folder, got None; see sasa train --help"),
        (
            ["--resume", "x", "--seed", "1"],
            "--resume: expected no further arguments, as the run has its configuration, got '--seed 1'",
        ),
        (["--resume", "nowhere"], "--resume: expected a run folder, got nowhere"),
        (
            ["--model.options.widht_mult", "1"],
            "model: ",
        ),
        (["--data.options.root", "x"], "data: "),
    ],
)
def test_faulty_commands(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("sasa: error: ")
    assert message in error
    assert error.count("\n") == 1


def test_print_config(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--optimizer.lr", "0.25", "--print_config"]) == 0
    assert "  lr: 0.25\n" in capsys.readouterr().out
