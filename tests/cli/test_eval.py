"""sasa eval."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from sasa.cli import main
from sasa.train import WeightsMetadata, evaluate_details, save_weights
from sasa.train.loaders import evaluation_loader


def test_a_faulty_option_of_eval(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "--option", "root=x"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("sasa: error: data: ")
    assert error.count("\n") == 1
    assert main(["eval", "--option", "num_workers=2"]) == 2
    assert capsys.readouterr().err.startswith(
        "sasa: error: --option: expected an option of the data, got 'num_workers'; see"
    )


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of processes that evaluations were to load images with."""
    seen = []

    def loader(*args: Any, num_workers: int, **kwargs: Any) -> Any:
        seen.append(num_workers)
        return evaluation_loader(*args, num_workers=num_workers, **kwargs)

    monkeypatch.setattr("sasa.train.modules.evaluation_loader", loader)
    return seen


def test_eval_may_skip_broken_images_and_load_with_workers(
    images: Path, tmp_path: Path, workers: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    about = WeightsMetadata("test_resnet", {}, ["green", "red"], [3, 16, 16], [0.5] * 3, [0.5] * 3)
    save_weights(tmp_path / "weights.safetensors", about.create_model(), about)
    data = tmp_path / "images"
    shutil.copytree(images, data)
    (data / "test" / "red" / "0.png").write_bytes(b"broken")
    command = ["eval", "--run", str(tmp_path / "weights.safetensors"), "--data", str(data)]
    assert main(command) == 2
    assert "0.png: broken image" in capsys.readouterr().err
    assert main([*command, "--skip_broken", "--num_workers", "1"]) == 0
    output = capsys.readouterr()
    assert output.out.splitlines()[1].endswith(" on 11 images")
    assert "0.png" in output.err
    assert workers == [0, 1]


def test_details(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A network that always says "red", with a probability of three quarters: 6 images of each class."""
    about = WeightsMetadata("test_resnet", {}, ["green", "red"], [3, 16, 16], [0.5] * 3, [0.5] * 3)
    network = about.create_model()
    torch.nn.init.zeros_(network.fc.weight)  # type: ignore[arg-type]
    network.fc.bias.data = torch.tensor([0.0, math.log(3)])  # type: ignore[union-attr]
    save_weights(tmp_path / "weights.safetensors", network, about)
    out = tmp_path / "details"
    command = [
        "eval",
        "--run",
        str(tmp_path / "weights.safetensors"),
        "--data",
        str(images),
        "--out",
        str(out),
    ]
    assert main([*command, "--mistakes", "4", "--batch_size", "5", "--json", str(out / "r.json")]) == 0
    assert capsys.readouterr().out.splitlines()[2:] == [
        "calibration error 25.00%",
        "accuracy by class:",
        "  green  0.00% of 6",
        "  red    100.00% of 6",
    ]
    tables = {name: (out / name).read_text().splitlines() for name in ("by_class.csv", "confusion.csv")}
    assert tables["by_class.csv"] == ["class,accuracy,images", "green,0.0,6", "red,1.0,6"]
    assert tables["confusion.csv"] == ["class,green,red", "green,0,6", "red,0,6"]
    for name in ("confusion.png", "mistakes.png"):
        assert (out / name).stat().st_size > 1000
    assert json.loads((out / "r.json").read_text())["by_class"]["red"] == {"accuracy": 1.0, "images": 6}
    details = evaluate_details(tmp_path / "weights.safetensors", images, mistakes=4, batch_size=5)
    assert [(m.label, m.predicted) for m in details.mistakes] == [("green", "red")] * 4
    for mistake in details.mistakes:
        assert mistake.confidence == pytest.approx(0.75)
        assert mistake.image.shape == (16, 16, 3)
        assert mistake.image[..., 1].mean() > mistake.image[..., 0].mean(), "a green image"
    assert main([*command, "--mistakes", "0"]) == 2
    assert "mistakes: expected at least 1, got 0" in capsys.readouterr().err


def test_a_loss_that_is_not_finite_is_null(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    about = WeightsMetadata("test_resnet", {}, ["green", "red"], [3, 16, 16], [0.5] * 3, [0.5] * 3)
    network = about.create_model()
    torch.nn.init.constant_(network.fc.bias, float("inf"))  # type: ignore[arg-type]
    save_weights(tmp_path / "weights.safetensors", network, about)
    report = tmp_path / "report.json"
    weights = str(tmp_path / "weights.safetensors")
    assert main(["eval", "--run", weights, "--data", str(images), "--json", str(report)]) == 0
    assert "loss not finite on 12 images" in capsys.readouterr().out
    assert json.loads(report.read_text())["loss"] is None
