"""sasa detect train, and sasa detect eval of its run; faulty arguments of all three commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sasa.cli import main

TINY = [
    *("--model.backbone", "sasa_resnet26_conv", "--model.backbone_options", '{"width_mult": 0.125}'),
    *("--model.options", '{"fpn_channels": 16, "fpn_and_heads": "conv"}'),
    *("--data.size", "64", "--data.options", '{"length": 4, "size": 64}'),
    *("--optimizer.batch_size", "2", "--optimizer.epochs", "1", "--optimizer.warmup_epochs", "0"),
]


def test_train_resume_then_eval(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    assert main(["detect", "train", *TINY, "--run", str(run)]) == 0
    output = capsys.readouterr()
    assert output.err == ""
    lines = output.out.splitlines()
    assert lines[0].startswith("epoch 1/1: loss ")
    assert ", AP50 " in lines[0]
    assert lines[1].startswith("4 images, loss ")
    assert lines[-2:] == [f"learning curves: {run / 'curves.png'}", f"detections: {run / 'detections.png'}"]
    assert all((run / name).is_file() for name in ("curves.png", "detections.png", "model.safetensors"))
    results = json.loads((run / "results.json").read_text())

    report, found = tmp_path / "report.json", tmp_path / "found.json"
    command = ["detect", "eval", "--run", str(run), "--batch_size", "2"]
    assert main([*command, "--json", str(report), "--results", str(found)]) == 0
    data = "data: scenes, split test, length=4, size=64"
    assert capsys.readouterr().out.splitlines() == [data, *lines[1 : 1 + 3 + 10]]
    evaluated = json.loads(report.read_text())
    assert {name: evaluated[name] for name in ("AP", "by_class", "loss")} == {
        name: results[name] for name in ("AP", "by_class", "loss")
    }
    assert isinstance(json.loads(found.read_text()), list)

    assert main(["detect", "train", "--resume", str(run)]) == 2
    assert "which is finished" in capsys.readouterr().err
    assert main(["detect", "train", *TINY, "--run", str(run)]) == 2
    assert f"continue it (sasa detect train --resume {run})" in capsys.readouterr().err
    (run / "results.json").unlink()
    assert main(["detect", "train", "--resume", str(run)]) == 0
    assert "from epoch-0001" in capsys.readouterr().err
    again = json.loads((run / "results.json").read_text())
    assert {name: again[name] for name in ("AP", "loss")} == {name: results[name] for name in ("AP", "loss")}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "unknown command 'trian'; did you mean 'train'?"),
        (["train", "--optimizer.lrr", "1"], "--optimizer.lrr: unknown key; did you mean 'optimizer.lr'?"),
        (["train", "--resume"], "--resume: expected a run folder, got None; see sasa detect train --help"),
        (["train", "--resume", "nowhere"], "--resume: expected a run folder, got nowhere"),
        (["eval", "--nothing", "x"], "see sasa detect eval --help"),
        (["eval", "--run", "nowhere"], "folder of a finished run, got nowhere"),
        (["predict", "missing.png", "--run", "nowhere"], "got 'missing.png', which does not exist"),
        (
            ["train", *TINY, "--model.options.widht_mult", "1"],
            "error: model: create_retinanet() got an unexpected",
        ),
        (
            ["train", *TINY, "--model.backbone_options.widht_mult", "1"],
            "error: model: options: expected those of sasa_resnet26_conv, got 'widht_mult'",
        ),
        (
            ["train", *TINY, "--data.options.lenght", "1"],
            "error: data: scene_options: expected those of 'scenes', got 'lenght'",
        ),
    ],
)
def test_faulty_commands(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["detect", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("sasa: error: ")
    assert message in error
    assert error.count("\n") == 1
