"""sasa train, and sasa eval of its run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

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


def test_class_folders_without_splits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A share is held out, the run says which, and evaluation refuses other images."""
    for name, value in (("dark", 30), ("light", 200)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(10):
            Image.new("RGB", (16, 16), (value + i,) * 3).save(tmp_path / "photos" / name / f"{i}.png")
    run = tmp_path / "run"
    arguments = (
        f"train --model.name test_resnet --data.source {tmp_path}/photos --data.input_size 16 "
        "--data.val_fraction 0.2 --optimizer.batch_size 4 --optimizer.epochs 1 --optimizer.warmup_epochs 0 "
        f"--run {run}"
    ).split()
    assert main(arguments) == 2
    assert "data.test_fraction" in capsys.readouterr().err
    assert main([*arguments, "--data.test_fraction", "0.3"]) == 0
    assert json.loads((run / "results.json").read_text())["training_images"] == 12
    assert "test_fraction: 0.3" in (run / "config.yaml").read_text()
    capsys.readouterr()

    assert main(["eval", "--run", str(run), "--json", str(tmp_path / "eval.json")]) == 0
    evaluated = json.loads((tmp_path / "eval.json").read_text())
    assert evaluated["images"] == 6
    assert evaluated["data_options"] == {"test_fraction": 0.3, "split_seed": 0}
    (tmp_path / "photos/dark/0.png").rename(tmp_path / "photos/dark/new.png")
    for i in range(5):
        Image.new("RGB", (16, 16)).save(tmp_path / f"photos/dark/more{i}.png")
    assert main(["eval", "--run", str(run)]) == 2
    assert "expected the 6 images that were held out of the training" in capsys.readouterr().err
