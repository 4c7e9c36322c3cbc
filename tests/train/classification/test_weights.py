from __future__ import annotations

import dataclasses
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

import sasa
from sasa.train import WeightsMetadata, evaluate, load_weights, save_weights
from sasa.train.classification.weights import start_from


def metadata(**changes: Any) -> WeightsMetadata:
    values: dict[str, Any] = {
        "model": "test_resnet",
        "options": {"drop_rate": 0.5},
        "classes": ["class0", "class1", "class2"],
        "input_size": [3, 16, 16],
        "mean": [0.5, 0.5, 0.5],
        "std": [0.2, 0.2, 0.2],
        "accuracy": 0.5,
    }
    return WeightsMetadata(**{**values, **changes})


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(1)
    return metadata().create_model()


@pytest.fixture
def file(network: nn.Module, tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_weights(path, network, metadata())
    return path


def test_round_trip(network: nn.Module, file: Path) -> None:
    loaded, about = load_weights(file)
    assert about == metadata()
    assert about.sasa_version == sasa.__version__
    assert not loaded.training
    images = torch.randn(2, 3, 16, 16)
    assert torch.equal(loaded(images), network.eval()(images))


def test_files_from_before_the_recipe_was_kept_can_be_read(network: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "old.safetensors"
    texts = {key: json.dumps(value) for key, value in dataclasses.asdict(metadata()).items()}
    del texts["recipe"]
    save_file(network.state_dict(), path, metadata=texts)
    assert load_weights(path)[1] == metadata()


def test_run_stands_for_its_weights(file: Path) -> None:
    assert load_weights(file.parent)[1] == metadata()


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (
            "foreign",
            r"expected metadata of WeightsMetadata, got none of classes, input_size.*written by sasa",
        ),
        ("damaged", "expected a safetensors file"),
        ("missing", r"does not fit ResNet: fc\.bias is missing"),
        ("extra", r"does not fit ResNet: extra is unknown"),
        ("shape", r"fc\.weight: expected \(3, .*, got \(5, "),
    ],
)
def test_refused_in_words(network: nn.Module, file: Path, fault: str, message: str) -> None:
    if fault == "foreign":
        save_file(load_file(file), file)
    elif fault == "damaged":
        file.write_bytes(file.read_bytes()[:100])
    elif fault == "missing":
        del network.fc.bias  # type: ignore[union-attr]
        save_weights(file, network, metadata())
    elif fault == "extra":
        network.register_buffer("extra", torch.zeros(1))
        save_weights(file, network, metadata())
    else:
        save_weights(file, sasa.create_model("test_resnet", num_classes=5), metadata())
    with pytest.raises(ValueError, match=message):
        load_weights(file)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match="run: expected a safetensors file or the folder of a finished run, got "
    ):
        load_weights(tmp_path)


def test_start_from_the_same_classes(network: nn.Module, file: Path) -> None:
    fresh = metadata().create_model()
    start_from(file, fresh, ["class0", "class1", "class2"])
    for name, value in network.state_dict().items():
        assert torch.equal(value, fresh.state_dict()[name])


@pytest.mark.parametrize("classes", [["x", "y"], ["x", "y", "z"]])
def test_start_from_other_classes(
    network: nn.Module, file: Path, classes: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    fresh = metadata(classes=classes).create_model()
    classifier = fresh.get_classifier().weight.clone()  # type: ignore[operator]
    with caplog.at_level(logging.INFO, "sasa"):
        start_from(file, fresh, classes)
    assert (
        f"its 3 classes are not the {len(classes)} of the data; the classifier layer 'fc' is initialized anew"
        in caplog.text
    )
    assert torch.equal(fresh.get_classifier().weight, classifier)  # type: ignore[operator]
    assert torch.equal(fresh.state_dict()["conv1.0.weight"], network.state_dict()["conv1.0.weight"])


def test_evaluation_is_that_of_the_weights(network: nn.Module, file: Path, folder: Path) -> None:
    results = evaluate(file, folder, batch_size=3)
    images, labels = [], []
    for path in sorted((folder / "test").glob("*/*.png")):
        pixels = torch.frombuffer(bytearray(Image.open(path).tobytes()), dtype=torch.uint8)
        images.append((pixels.reshape(16, 16, 3).permute(2, 0, 1) / 255 - 0.5) / 0.2)
        labels.append(int(path.parent.name[-1]))
    with torch.no_grad():
        logits = network.eval()(torch.stack(images))
    expected = nn.functional.cross_entropy(logits, torch.tensor(labels)).item()
    assert results["images"] == 7
    assert results["top1"] == pytest.approx((logits.argmax(1) == torch.tensor(labels)).float().mean().item())
    assert results["loss"] == pytest.approx(expected, rel=1e-4)


def test_top5_from_six_classes_on(tmp_path: Path) -> None:
    torch.manual_seed(0)
    about = metadata(classes=[str(i) for i in range(10)], input_size=[1, 28, 28], mean=[0.3], std=[0.3])
    network = about.create_model().eval()
    save_weights(tmp_path / "w.safetensors", network, about)
    pixels = torch.randint(0, 256, (10, 28, 28), dtype=torch.uint8)
    for label in range(10):
        (tmp_path / "images" / "test" / str(label)).mkdir(parents=True)
        Image.fromarray(pixels[label].numpy()).save(tmp_path / "images" / "test" / str(label) / "0.png")
    with torch.no_grad():
        likeliest = network((pixels[:, None] / 255 - 0.3) / 0.3).topk(5).indices
    expected = (likeliest == torch.arange(10)[:, None]).float().mean(0)
    results = evaluate(tmp_path / "w.safetensors", tmp_path / "images")
    assert results["top1"] == pytest.approx(expected[0].item())
    assert results["top5"] == pytest.approx(expected.sum().item())
    assert 0 < results["top5"] < 1


def test_evaluation_checks_its_input(file: Path, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "test" / "class0", tmp_path / "other" / "test" / "dog")
    with pytest.raises(
        ValueError,
        match=r"other: expected the 3 classes \(class0, class1, class2\) of .*, got 1 classes \(dog\)",
    ):
        evaluate(file, tmp_path / "other")
    with pytest.raises(ValueError, match="batch_size: expected a positive number, got 0"):
        evaluate(file, folder, batch_size=0)


def test_evaluation_counts_what_it_skips(file: Path, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy" / "test" / "class0" / "0.png").write_bytes(b"broken")
    results = evaluate(file, tmp_path / "copy", on_broken="skip")
    assert (results["images"], results["skipped_images"]) == (6, 1)
    with pytest.raises(ValueError, match=r"0\.png: broken image"):
        evaluate(file, tmp_path / "copy")
