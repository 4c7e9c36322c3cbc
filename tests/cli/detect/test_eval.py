"""sasa detect eval, and faulty arguments of sasa detect predict."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from sasa.cli import main
from sasa.data.detection import create_detection_dataset
from sasa.train import load_detector, save_weights
from sasa.train.loaders import evaluation_loader

SCENES = ["--option", "length=4", "--option", "size=64"]


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
    command = ["detect", "eval", "--run", str(tmp_path / "wrong.safetensors"), *SCENES]
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
        workers.append(kwargs["num_workers"])
        return evaluation_loader(*args, **kwargs)

    monkeypatch.setattr("sasa.train.modules.evaluation_loader", loader)
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
    command = ["detect", "eval", "--run", str(weights), "--data", str(file), "--json", str(report)]
    assert main([*command, "--skip_invalid"]) == 2
    assert "one.png" in capsys.readouterr().err
    command += ["--images", str(tmp_path)]
    assert main(command) == 2
    assert str(file) in capsys.readouterr().err
    assert main([*command, "--skip_invalid", "--num_workers", "1"]) == 0
    results = json.loads(report.read_text())
    assert (results["images"], results["skipped_objects"]) == (1, 1)
    assert workers == [1]


def test_faults_of_what_is_given(
    weights: Path, photos: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predict = ["detect", "predict", "--run", str(weights), "--out", str(tmp_path / "out")]
    assert main([*predict, str(tmp_path / "missing.png")]) == 2
    assert "missing.png" in capsys.readouterr().err
    assert main([*predict, photos[0], "--min_score", "2"]) == 2
    assert "min_score: expected a number in [0, 1], got 2.0" in capsys.readouterr().err
    assert main(["detect", "eval", "--run", str(weights)]) == 2
    assert "got 10 classes" in capsys.readouterr().err
    assert main(["detect", "eval", "--run", str(weights), "--batch_size", "0"]) == 2
    assert "batch_size: expected a positive number" in capsys.readouterr().err
    folder = str(tmp_path)
    assert main(["detect", "eval", "--run", str(weights), "--data", folder, "--images", folder]) == 2
    assert "error: data: images: expected None for" in capsys.readouterr().err
    assert main(["detect", "eval", "--run", str(weights), "--option", "lenght=4"]) == 2
    message = "data: scene_options: expected those of 'scenes', got 'lenght'; did you mean 'length'?"
    assert capsys.readouterr().err == f"sasa: error: {message}\n"
