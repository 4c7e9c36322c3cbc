from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from sasa.cli import main
from sasa.train import WeightsMetadata, load_config, save_weights
from sasa.train.loaders import evaluation_loader


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("images")
    for split in ("train", "test"):
        for label, color in enumerate(("red", "green")):
            (root / split / color).mkdir(parents=True)
            for number in range(6):
                shade = tuple(250 - number if channel == label else number for channel in range(3))
                Image.new("RGB", (16, 16), shade).save(root / split / color / f"{number}.png")
    return root


def test_train_then_eval(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"model: {{name: test_resnet}}\ndata: {{source: {images}, input_size: 16, held_out: 0.2}}\n"
        "optimizer: {batch_size: 4, epochs: 3, lr: 20, warmup_epochs: 0}\n"
    )
    run = tmp_path / "run"
    command = ["train", "--config", str(recipe), "--run_folder", str(run), "--optimizer.epochs", "1"]
    assert main(command) == 0
    output = capsys.readouterr()
    assert output.out.startswith("epoch 1/1: loss ")
    (score,) = (line for line in output.out.splitlines() if line.startswith("top-1 "))
    assert score.endswith(" on 12 images")
    assert output.err == ""
    assert load_config(run / "config.yaml").optimizer.epochs == 1
    results = json.loads((run / "results.json").read_text())

    report = tmp_path / "report.json"
    assert main(["eval", "--weights", str(run), "--json", str(report)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"data: {images}, split test", "those that it was trained on"
    assert lines[1].startswith(f"top-1 {results['top1']:.2%}, loss")
    evaluated = json.loads(report.read_text())
    assert (evaluated["top1"], evaluated["images"], evaluated["split"]) == (results["top1"], 12, "test")

    assert main(["eval", "--weights", str(run), "--data", str(images), "--split", "train"]) == 0
    assert capsys.readouterr().out.startswith(f"data: {images}, split train\n")
    assert main(["eval", "--weights", str(run), "--option", "root"]) == 2
    assert "--option: expected KEY=VALUE, got 'root'" in capsys.readouterr().err
    assert main(["eval", "--weights", str(run), "--data", "fashion-mnist"]) == 2, "other classes"
    assert "classes" in capsys.readouterr().err

    assert main(command) == 2
    assert "holds a run already" in capsys.readouterr().err
    assert main(["train", "--resume", str(run)]) == 2
    assert "is finished" in capsys.readouterr().err

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
        (["--config", "nowhere.yaml"], "no such file: nowhere.yaml"),
        (["--resume"], "--resume needs the run's folder"),
        (["--resume", "x", "--seed", "1"], "leave out --seed 1"),
        (["--resume", "nowhere"], "no run in nowhere"),
        (
            ["--model.options.widht_mult", "1"],
            "model: options: expected those of sasa_resnet26, got 'widht_mult'",
        ),
        (["--data.options.root", "x"], "data: reader_options: expected none for 'fashion-mnist'"),
    ],
)
def test_faulty_commands(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("sasa: error: ")
    assert message in error
    assert error.count("\n") == 1


def test_a_faulty_option_of_eval(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "--option", "root=x"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("sasa: error: data: reader_options: expected none for 'fashion-mnist'")
    assert error.count("\n") == 1
    assert main(["eval", "--option", "workers=2"]) == 2
    assert capsys.readouterr().err.startswith("sasa: error: --option: 'workers' is not of the data; see")


def test_print_config(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--optimizer.lr", "0.25", "--print_config"]) == 0
    assert "  lr: 0.25\n" in capsys.readouterr().out


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of processes that evaluations were to load images with."""
    seen = []

    def loader(*args: Any, workers: int, **kwargs: Any) -> Any:
        seen.append(workers)
        return evaluation_loader(*args, workers=workers, **kwargs)

    monkeypatch.setattr("sasa.train.run.evaluation_loader", loader)
    return seen


def test_eval_may_skip_broken_images_and_load_with_workers(
    images: Path, tmp_path: Path, workers: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    about = WeightsMetadata("test_resnet", {}, ["green", "red"], [3, 16, 16], [0.5] * 3, [0.5] * 3)
    save_weights(tmp_path / "weights.safetensors", about.create_model(), about)
    data = tmp_path / "images"
    shutil.copytree(images, data)
    (data / "test" / "red" / "0.png").write_bytes(b"broken")
    command = ["eval", "--weights", str(tmp_path / "weights.safetensors"), "--data", str(data)]
    assert main(command) == 2
    assert "0.png: broken image" in capsys.readouterr().err
    assert main([*command, "--skip-broken", "--workers", "1"]) == 0
    output = capsys.readouterr()
    assert output.out.splitlines()[1].endswith(" on 11 images")
    assert "0.png" in output.err
    assert workers == [0, 1]


def test_a_loss_that_is_not_finite_is_null(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    about = WeightsMetadata("test_resnet", {}, ["green", "red"], [3, 16, 16], [0.5] * 3, [0.5] * 3)
    network = about.create_model()
    torch.nn.init.constant_(network.fc.bias, float("inf"))  # type: ignore[arg-type]
    save_weights(tmp_path / "weights.safetensors", network, about)
    report = tmp_path / "report.json"
    weights = str(tmp_path / "weights.safetensors")
    assert main(["eval", "--weights", weights, "--data", str(images), "--json", str(report)]) == 0
    assert "loss not finite on 12 images" in capsys.readouterr().out
    assert json.loads(report.read_text())["loss"] is None
