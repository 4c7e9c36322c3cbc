"""sasa detect train, eval and predict."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sasa.cli import main
from sasa.cli.detect import COMMANDS
from sasa.data.detection import create_detection_dataset
from sasa.train import DetectorMetadata, load_detector, save_weights
from sasa.train.loaders import evaluation_loader

TINY = [
    *("--model.backbone", "sasa_resnet26_conv", "--model.backbone_options", '{"width_mult": 0.125}'),
    *("--model.options", '{"fpn_channels": 16, "fpn_and_heads": "conv"}'),
    *("--data.size", "64", "--data.options", '{"length": 4, "size": 64}'),
    *("--optimizer.batch_size", "2", "--optimizer.epochs", "1", "--optimizer.warmup_epochs", "0"),
]
SCENES = ["--option", "length=4", "--option", "size=64"]


def test_train_resume_then_eval(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    assert main(["detect", "train", *TINY, "--run_folder", str(run)]) == 0
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
    command = ["detect", "eval", "--weights", str(run), "--batch-size", "2"]
    assert main([*command, "--json", str(report), "--results", str(found)]) == 0
    data = "data: scenes, split test, length=4, size=64"
    assert capsys.readouterr().out.splitlines() == [data, *lines[1 : 1 + 3 + 10]]
    evaluated = json.loads(report.read_text())
    assert {name: evaluated[name] for name in ("AP", "by_class", "loss")} == {
        name: results[name] for name in ("AP", "by_class", "loss")
    }
    assert isinstance(json.loads(found.read_text()), list)

    assert main(["detect", "train", "--resume", str(run)]) == 2
    assert "is finished" in capsys.readouterr().err
    assert main(["detect", "train", *TINY, "--run_folder", str(run)]) == 2
    assert f"go on with it (sasa detect train --resume {run})" in capsys.readouterr().err
    (run / "results.json").unlink()
    assert main(["detect", "train", "--resume", str(run)]) == 0
    assert "from epoch-0001" in capsys.readouterr().err
    again = json.loads((run / "results.json").read_text())
    assert {name: again[name] for name in ("AP", "loss")} == {name: results[name] for name in ("AP", "loss")}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector that finds anything anywhere."""
    torch.manual_seed(0)
    about = DetectorMetadata(
        backbone="sasa_resnet26_conv",
        backbone_options={"width_mult": 0.125},
        options={"fpn_channels": 16, "fpn_and_heads": "conv"},
        classes=["cup", "owl"],
        size=64,
        mean=[0.5, 0.5, 0.5],
        std=[0.25, 0.25, 0.25],
    )
    detector = about.create_model()
    with torch.no_grad():
        detector.head.classification_head.cls_logits.weight.mul_(30)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_weights(path, detector, about)
    return path


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("head", ["classification_head.cls_logits", "regression_head.bbox_reg"])
def test_outputs_that_are_not_finite_are_evaluated(
    weights: Path, head: str, value: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No box can be trusted, but the metrics are those of what is left, and their file is JSON."""
    _, about = load_detector(weights)
    about.classes[:] = create_detection_dataset("scenes").classes
    detector = about.create_model()
    with torch.no_grad():
        detector.head.get_submodule(head).bias.fill_(value)
    save_weights(tmp_path / "wrong.safetensors", detector, about)
    report = tmp_path / "report.json"
    command = ["detect", "eval", "--weights", str(tmp_path / "wrong.safetensors"), *SCENES]
    assert main([*command, "--json", str(report)]) == 0
    assert capsys.readouterr().out.splitlines()[1] == "4 images, loss not finite"
    results = json.loads(report.read_text(), parse_constant=pytest.fail)
    assert results["loss"] is None
    assert 0 <= results["AP"] < 0.05


def test_eval_of_an_annotation_file(
    weights: Path,
    photos: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With its images elsewhere, a box without an area, and a process that loads the images."""
    workers = []

    def loader(*args: Any, **kwargs: Any) -> Any:
        workers.append(kwargs["workers"])
        return evaluation_loader(*args, **kwargs)

    monkeypatch.setattr("sasa.train.detection.run.evaluation_loader", loader)
    boxes = {1: [4, 4, 20, 20], 2: [8, 8, 0, 10]}
    content = {
        "images": [{"id": 1, "file_name": "one.png", "width": 80, "height": 48}],
        "annotations": [
            {"id": n, "image_id": 1, "category_id": n, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
            for n, box in boxes.items()
        ],
        "categories": [{"id": 1, "name": "cup"}, {"id": 2, "name": "owl"}],
    }
    file, report = tmp_path / "elsewhere" / "photos.json", tmp_path / "report.json"
    file.parent.mkdir()
    file.write_text(json.dumps(content))
    command = ["detect", "eval", "--weights", str(weights), "--data", str(file), "--json", str(report)]
    assert main([*command, "--skip-invalid"]) == 2
    assert "one.png" in capsys.readouterr().err
    command += ["--images", str(tmp_path)]
    assert main(command) == 2
    assert str(file) in capsys.readouterr().err
    assert main([*command, "--skip-invalid", "--workers", "1"]) == 0
    results = json.loads(report.read_text())
    assert (results["images"], results["skipped_objects"]) == (1, 1)
    assert workers == [1]


@pytest.fixture
def photos(tmp_path: Path) -> list[str]:
    random = np.random.default_rng(0)
    paths = []
    for name, size in (("one.png", (48, 80, 3)), ("two.jpg", (64, 64, 3))):
        path = tmp_path / name
        Image.fromarray(random.integers(0, 255, size, dtype=np.uint8)).save(path)
        paths.append(str(path))
    return paths


def test_predict_writes_pictures_and_json(
    weights: Path, photos: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "found"
    command = ["detect", "predict", *photos, "--weights", str(weights), "--out", str(out)]
    assert main([*command, "--min-score", "0.2"]) == 0
    output = capsys.readouterr()
    assert output.err == "", "no progress bar where there is no terminal"
    content = json.loads((out / "detections.json").read_text())
    assert [entry["image"] for entry in content] == photos
    assert [(entry["width"], entry["height"]) for entry in content] == [(80, 48), (64, 64)]
    count = sum(len(entry["detections"]) for entry in content)
    assert count > 0
    assert output.out.startswith(f"{count} objects in 2 images")
    detector, _ = load_detector(weights)
    with Image.open(photos[0]) as image:
        pixels = torch.tensor(np.asarray(image)).permute(2, 0, 1) / 255
    with torch.no_grad():
        (expected,) = detector([pixels])
    keep = expected["scores"] >= 0.2
    first = content[0]["detections"]
    assert [entry["class"] for entry in first] == [["cup", "owl"][i] for i in expected["labels"][keep]]
    found = torch.tensor([entry["box"] for entry in first])
    torch.testing.assert_close(found, expected["boxes"][keep], rtol=0, atol=1e-3)
    scores = torch.tensor([entry["score"] for entry in first])
    torch.testing.assert_close(scores, expected["scores"][keep], rtol=0, atol=1e-5)
    for name, size in (("one.png", (640, 384)), ("two.png", (640, 640))):
        with Image.open(out / name) as picture:
            assert picture.size == size

    best = max(entry["score"] for entry in first)
    assert main([*command, "--min-score", str(best)]) == 0
    content = json.loads((out / "detections.json").read_text())
    assert {entry["score"] for image in content for entry in image["detections"]} >= {best}
    assert sum(len(entry["detections"]) for entry in content) < count


def test_predict_never_overwrites(
    weights: Path, photos: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["detect", "predict", "--weights", str(weights), "--out"]
    before = Path(photos[0]).read_bytes()
    assert main([*command, str(tmp_path), photos[0]]) == 2
    assert f"which is taken by {photos[0]}" in capsys.readouterr().err
    assert Path(photos[0]).read_bytes() == before
    other = tmp_path / "other" / "one.jpg"
    other.parent.mkdir()
    other.write_bytes(before)
    assert main([*command, str(tmp_path / "out"), photos[0], str(other)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "unknown command 'trian'; did you mean 'train'?"),
        (["train", "--optimizer.lrr", "1"], "--optimizer.lrr: unknown key; did you mean 'optimizer.lr'?"),
        (["train", "--resume"], "--resume needs the run's folder; see sasa detect train --help"),
        (["train", "--resume", "nowhere"], "no run in nowhere"),
        (["eval", "--wieghts", "x"], "see sasa detect eval --help"),
        (["eval", "--weights", "nowhere"], "no weights at nowhere"),
        (["predict", "missing.png", "--weights", "nowhere"], "no weights at nowhere"),
        (
            ["train", *TINY, "--model.options.widht_mult", "1"],
            "error: model: create_retinanet() got an unexpected",
        ),
        (
            ["train", *TINY, "--model.backbone_options.widht_mult", "1"],
            "error: model: options: expected those of sasa_resnet26_conv",
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


def test_faults_of_what_is_given(
    weights: Path, photos: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predict = ["detect", "predict", "--weights", str(weights), "--out", str(tmp_path / "out")]
    assert main([*predict, str(tmp_path / "missing.png")]) == 2
    assert "missing.png" in capsys.readouterr().err
    assert main([*predict, photos[0], "--min-score", "2"]) == 2
    assert "min_score must lie in [0, 1], got 2.0" in capsys.readouterr().err
    assert main(["detect", "eval", "--weights", str(weights)]) == 2
    assert "its 10 classes" in capsys.readouterr().err
    assert main(["detect", "eval", "--weights", str(weights), "--batch-size", "0"]) == 2
    assert "batch_size must be positive" in capsys.readouterr().err
    folder = str(tmp_path)
    assert main(["detect", "eval", "--weights", str(weights), "--data", folder, "--images", folder]) == 2
    assert "error: data: images: expected None for" in capsys.readouterr().err
    assert main(["detect", "eval", "--weights", str(weights), "--option", "lenght=4"]) == 2
    message = "data: scene_options: expected those of 'scenes', got 'lenght'; did you mean 'length'?"
    assert capsys.readouterr().err == f"sasa: error: {message}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["detect", "--help"]) == 0
    assert f"\n  {name} " in capsys.readouterr().out
    assert main(["detect", name, "--help"]) == 0
    assert f"usage: sasa detect {name}" in capsys.readouterr().out
