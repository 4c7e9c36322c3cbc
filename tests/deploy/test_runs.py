"""Trained runs in files of other runtimes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from sasa.cli import main
from sasa.deploy import export_run, load_onnx
from sasa.train import load_images, load_weights, save_weights

from ..models import networks


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier with the classes of the built-in one, small enough to be exported quickly."""
    _, metadata = load_weights("built-in")
    options = {"width_mult": 0.125, "num_heads": 1, "kernel_size": 3, "stem_stride": 1}
    metadata = metadata.__class__(**{**vars(metadata), "model": "sasa_resnet26", "options": options})
    network = metadata.create_model().eval()
    networks.randomize(network)
    path = tmp_path_factory.mktemp("run") / "model.safetensors"
    save_weights(path, network, metadata)
    return path


def test_predict_from_onnx(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    image = tmp_path / "image.png"
    Image.effect_noise((40, 30), 80).save(image)
    assert main(["export", str(weights.parent)]) == 0
    path = Path(capsys.readouterr().out.strip())
    assert path == weights.with_suffix(".onnx")
    network, metadata = load_onnx(path)
    original, expected = load_weights(weights)
    assert metadata == expected
    pixels, _ = load_images([image], metadata)
    torch.testing.assert_close(network(pixels), original(pixels).detach(), rtol=1e-4, atol=1e-4)
    printed = []
    for run in (str(path), str(weights)):
        assert main(["predict", str(image), "--run", run]) == 0
        printed.append(re.findall(r"% +(\S+)", capsys.readouterr().out))
    assert printed[0] == printed[1]
    assert len(printed[0]) == 5


@pytest.mark.parametrize("to", ["pt2", "aoti"])
def test_metadata_go_along(weights: Path, tmp_path: Path, to: str) -> None:
    path = export_run(weights, tmp_path / "model.pt2", to=to)
    if to == "pt2":
        files = {"sasa.json": ""}
        torch.export.load(path, extra_files=files)
        assert "Ankle boot" in files["sasa.json"]
    else:
        metadata = torch._inductor.aoti_load_package(str(path)).get_metadata()
        assert "Ankle boot" in metadata["classes"]


def test_wrong_arguments(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "built-in"]) == 2
    assert "path: expected a file to export built-in to, got None" in capsys.readouterr().err
    assert main(["export", str(weights), "--to", "tflite"]) == 2
    assert "invalid choice: 'tflite'" in capsys.readouterr().err
    assert main(["export", str(weights), "--to", "pt2", "--opset", "18"]) == 2
    assert "opset: expected None for pt2, got 18" in capsys.readouterr().err
    assert [file.name for file in weights.parent.iterdir() if file.suffix == ".pt2"] == []
