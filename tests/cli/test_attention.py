"""sasa attention."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sasa.cli import main
from sasa.train import (
    DataConfig,
    TrainConfig,
    WeightsMetadata,
    save_weights,
)
from sasa.train.config_files import plain


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def test_no_folder_for_the_picture(picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["attention", str(picture), "--out", str(tmp_path / "no" / "a.png")]) == 2
    assert f"; create {tmp_path / 'no'}\n" in capsys.readouterr().err


def test_attention_draws_chosen_layers_and_heads(
    weights: Path, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "maps.png"
    base = ["attention", str(picture), "--run", str(weights), "--out", str(out)]
    assert main([*base, "--layers", "layer1.0.spatial"]) == 0
    assert capsys.readouterr().out == f"wrote {out}\n"
    one = size(out)
    assert main([*base, "--layers", "stem", "layer1.0.spatial", "--heads", "0", "1"]) == 0
    assert size(out)[0] > 2 * one[0]


def test_attention_defaults_to_the_built_in_images(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the weights do not say what they were trained on and their classes are these."""
    out = tmp_path / "maps.png"
    assert main(["attention", "--run", str(weights), "--out", str(out), "--query", "0.2", "0.7"]) == 0
    width, height = size(out)
    assert height > 1.4 * width  # ten rows, six columns
    assert capsys.readouterr().out == f"data: fashion-mnist, split test\nwrote {out}\n"


def foreign(path: Path, recipe: dict[str, Any] | None) -> str:
    """Weights of two classes of 16 × 16 color images."""
    options = {"width_mult": 0.125, "num_heads": 2, "kernel_size": 3}
    metadata = WeightsMetadata(
        "sasa_resnet26", options, ["cat", "dog"], [3, 16, 16], [0.5] * 3, [0.25] * 3, recipe=recipe
    )
    save_weights(path, metadata.create_model(), metadata)
    return str(path)


def test_attention_takes_the_data_that_the_weights_were_trained_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With its own split, and as it treats broken images."""
    for name in ("cat", "dog"):
        (tmp_path / "images" / "exam" / name).mkdir(parents=True)
        Image.new("RGB", (16, 16)).save(tmp_path / "images" / "exam" / name / "1.png")
    (tmp_path / "images" / "exam" / "cat" / "0.png").write_bytes(b"broken")
    source, out = str(tmp_path / "images"), tmp_path / "maps.png"
    data = DataConfig(source, test_split="exam", on_broken="skip")
    weights = foreign(tmp_path / "pets.safetensors", plain(TrainConfig(data=data)))
    assert main(["attention", "--run", weights, "--out", str(out)]) == 0
    assert f"data: {source}, split exam\n" in capsys.readouterr().out
    width, height = size(out)
    assert width > 2 * height  # two rows, six columns


def test_attention_shows_no_network_images_of_other_classes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "maps.png")
    weights = foreign(tmp_path / "unsaid.safetensors", None)
    assert main(["attention", "--run", weights, "--out", out]) == 2
    assert "images: expected image files for weights without a recipe" in capsys.readouterr().err
    gone = plain(TrainConfig(data=DataConfig(str(tmp_path / "gone"))))
    weights = foreign(tmp_path / "gone.safetensors", gone)
    assert main(["attention", "--run", weights, "--out", out]) == 2
    assert "gone', which is no existing file or folder; give image files" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--layers", "layer9"], "did you mean 'layer4.0.spatial'"),
        (["--heads", "7"], "expected 0 to"),
        (["--query", "2", "0"], "expected row and column in [0, 1]"),
    ],
)
def test_attention_errors(
    weights: Path, tmp_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "maps.png")
    assert main(["attention", "--run", str(weights), "--out", out, *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
