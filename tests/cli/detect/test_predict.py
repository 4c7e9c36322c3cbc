"""sasa detect predict."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sasa.cli import main
from sasa.train import load_detector


def test_predict_writes_pictures_and_json(
    weights: Path, photos: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "found"
    command = ["detect", "predict", *photos, "--run", str(weights), "--out", str(out)]
    assert main([*command, "--min_score", "0.2"]) == 0
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
    assert main([*command, "--min_score", str(best)]) == 0
    content = json.loads((out / "detections.json").read_text())
    assert {entry["score"] for image in content for entry in image["detections"]} >= {best}
    assert sum(len(entry["detections"]) for entry in content) < count


def test_predict_never_overwrites(
    weights: Path, photos: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["detect", "predict", "--run", str(weights), "--out"]
    before = Path(photos[0]).read_bytes()
    assert main([*command, str(tmp_path), photos[0]]) == 2
    assert f"which belongs to {photos[0]}" in capsys.readouterr().err
    assert Path(photos[0]).read_bytes() == before
    other = tmp_path / "other" / "one.png"
    other.parent.mkdir()
    other.write_bytes(before)
    assert main([*command, str(tmp_path / "out"), photos[0], str(other)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_predict_goes_on_after_a_broken_image_in_a_folder(
    weights: Path, photos: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pictures keep subfolders, and endings where names would be the same; a second run finds the same."""
    out = tmp_path / "found"
    (tmp_path / "a" / "b").mkdir(parents=True)
    Path(photos[0]).rename(tmp_path / "a" / "b" / "one.png")
    with Image.open(photos[1]) as image:
        image.save(tmp_path / "two.bmp")
    (tmp_path / "broken.png").write_text("<html>")
    Image.new("RGB", (3000, 1)).save(tmp_path / "thin.png")
    for _ in range(2):
        assert main(["detect", "predict", str(tmp_path), "--run", str(weights), "--out", str(out)]) == 1
        output = capsys.readouterr()
        assert output.err.startswith("sasa: error: 1 of 5 images cannot be read:\n")
        assert "broken.png: broken image: not an image" in output.err
        assert "in 4 images" in output.out
        content = json.loads((out / "detections.json").read_text())
        assert [Path(entry["image"]).name for entry in content] == [
            "one.png",
            "thin.png",
            "two.bmp",
            "two.jpg",
        ]
        pictures = sorted(str(path.relative_to(out)) for path in out.rglob("*.png"))
        assert pictures == ["a/b/one.png", "thin.png", "two.bmp.png", "two.jpg.png"]


def test_predict_turns_photos_upright(
    weights: Path, photos: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tags = Image.Exif()
    tags[0x0112] = 6
    with Image.open(photos[0]) as image:
        upright = image.transpose(Image.Transpose.ROTATE_270)
        image.save(tmp_path / "turned.png", exif=tags)
    upright.save(tmp_path / "upright.png")
    names = [str(tmp_path / name) for name in ("turned.png", "upright.png")]
    out = tmp_path / "out"
    assert main(["detect", "predict", *names, "--run", str(weights), "--out", str(out)]) == 0
    turned, plain = json.loads((out / "detections.json").read_text())
    assert {**turned, "image": ""} == {**plain, "image": ""}
    assert (turned["width"], turned["height"]) == (48, 80)
    with Image.open(out / "turned.png") as one, Image.open(out / "upright.png") as other:
        assert one.tobytes() == other.tobytes()
