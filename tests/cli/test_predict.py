"""sasa predict."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from sasa.cli import main
from sasa.data import (
    FASHION_MNIST_CLASSES,
)
from sasa.train import (
    load_images,
    load_weights,
)


def test_predict_prints_the_top_five_with_their_probabilities(
    weights: Path, picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(picture), str(picture), "--run", str(weights)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:6] == lines[6:]
    assert lines[0] == str(picture)
    network, metadata = load_weights(weights)
    with torch.inference_mode():
        probabilities = network(load_images([picture], metadata)[0]).softmax(1)[0]
    top = probabilities.topk(5)
    expected = [
        f"{value:.2%}  {FASHION_MNIST_CLASSES[index]}"
        for value, index in zip(top.values.tolist(), top.indices.tolist(), strict=True)
    ]
    assert [line.strip() for line in lines[1:6]] == expected


def test_predict_writes_tables(weights: Path, picture: Path, tmp_path: Path) -> None:
    files = {kind: tmp_path / f"table.{kind}" for kind in ("csv", "json")}
    command = ["predict", str(picture), str(picture), "--run", str(weights)]
    assert main([*command, *(text for kind, file in files.items() for text in (f"--{kind}", str(file)))]) == 0
    network, metadata = load_weights(weights)
    with torch.inference_mode():
        expected = network(load_images([picture], metadata)[0]).softmax(1)[0].tolist()
    with files["csv"].open(newline="") as file:
        head, *rows = list(csv.reader(file))
    assert head == ["image", *FASHION_MNIST_CLASSES]
    assert [row[0] for row in rows] == [str(picture)] * 2
    assert [float(value) for value in rows[0][1:]] == pytest.approx(expected)
    content = json.loads(files["json"].read_text())
    assert [item["image"] for item in content] == [str(picture)] * 2
    assert list(content[0]["probabilities"]) == list(FASHION_MNIST_CLASSES)
    assert list(content[0]["probabilities"].values()) == pytest.approx(expected)


def test_predict_takes_more_images_than_a_batch(
    weights: Path, picture: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def watched(path: str) -> Any:
        network, metadata = load_weights(path)
        network.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
        return network, metadata

    monkeypatch.setattr("sasa.train.load_weights", watched)
    assert main(["predict", *[str(picture)] * 65, "--run", str(weights)]) == 0
    assert capsys.readouterr().out.splitlines().count(str(picture)) == 65
    assert sizes == [32, 32, 1]


def test_predict_goes_on_after_a_broken_image(
    weights: Path, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.png").write_bytes(b"")
    for images in ([str(tmp_path)], [str(tmp_path / "*.png")], [str(tmp_path / "broken.png"), str(picture)]):
        assert main(["predict", *images, "--run", str(weights)]) == 1
        output = capsys.readouterr()
        assert output.out.splitlines()[0] == str(picture)
        assert len(output.out.splitlines()) == 6
        assert output.err.splitlines() == [
            "sasa: error: 1 of 2 images cannot be read:",
            f"  {tmp_path}/broken.png: broken image: the file is empty (0 bytes)",
        ]


def test_built_in_weights_are_the_default(
    picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(picture)]) == 0
    assert capsys.readouterr().out.splitlines()[1].endswith("Ankle boot")
    out = tmp_path / "attention.png"
    assert main(["attention", str(picture), "--out", str(out)]) == 0
    assert out.exists()
    assert main(["eval", "--split", "test"]) == 0
    assert "on 2000 images" in capsys.readouterr().out


def test_predict_names_the_missing_file(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "missing.png", "--run", str(weights)]) == 2
    assert "missing.png" in capsys.readouterr().err
