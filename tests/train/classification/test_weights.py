from __future__ import annotations

import dataclasses
import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel

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


def write_texts(path: Path, network: nn.Module, **changes: str) -> None:
    """A weights file with texts of anyone."""
    texts = {key: json.dumps(value) for key, value in dataclasses.asdict(metadata()).items()}
    save_file(network.state_dict(), path, metadata={**texts, **changes})


URL = {"url": "http://127.0.0.1:9/weights.pth"}


@pytest.mark.parametrize(
    "options",
    [
        {"pretrained": True},
        {"pretrained": True, "pretrained_cfg": URL},
        {"pretrained": True, "pretrained_cfg_overlay": {"file": "/nowhere"}},
        {"pretrained": True, "pretrained_cfg": {"source": "local-dir", "file": "/nowhere"}},
        {"pretrained": True, "pretrained_cfg_overlay": {"hf_hub_id": "a/b", "source": "hf-hub"}},
        {"checkpoint_path": "/nowhere", "cache_dir": "/nowhere"},
    ],
)
def test_a_file_of_weights_leads_to_no_other(
    network: nn.Module, tmp_path: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = []
    monkeypatch.setattr("timm.models._builder.load_pretrained", lambda *a, **k: loaded.append(a))
    monkeypatch.setattr("timm.models._factory.load_checkpoint", lambda *a, **k: loaded.append(a))
    path = tmp_path / "model.safetensors"
    write_texts(path, network, options=json.dumps({"drop_rate": 0.5, **options}))
    found, about = load_weights(path)
    assert loaded == []
    assert about == metadata()
    assert torch.equal(found.state_dict()["fc.weight"], network.state_dict()["fc.weight"])
    assert metadata(options=options).options == {}, "nor is it written"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "model",
            '"hf-hub:author/network"',
            "its metadata describe no network: name: expected",
        ),
        (
            "model",
            '"local-dir:/nowhere"',
            "its metadata describe no network: name: expected",
        ),
        ("options", '{"num_classes": 5}', "its metadata describe no network: .*num_classes"),
        ("options", '{"width": 5}', "its metadata describe no network: .*width"),
        ("options", '{"block": "x"}', "its metadata describe no network: "),
        ("options", "[]", r"metadata options: expected dict\[str, .*Any\], got \[\]"),
        ("classes", '"abc"', r"metadata classes: expected list\[str\], got \"abc\""),
        ("classes", "[1, 2]", r"metadata classes: expected list\[str\], got \[1, 2\]"),
        ("input_size", "[3, 16]", "metadata input_size: expected positive C, H and W"),
        ("input_size", "[true, 16, 16]", r"metadata input_size: expected list\[int\]"),
        ("mean", "[0.5]", "metadata mean: expected a number for each of the 3 channels"),
        ("recipe", "nonsense", "metadata recipe: expected JSON, got 'nonsense'"),
        ("recipe", "[" * 100_000, r"metadata recipe: expected JSON, got '\["),
    ],
)
def test_metadata_of_anyone_are_refused_in_words(
    network: nn.Module, tmp_path: Path, name: str, text: str, message: str
) -> None:
    path = tmp_path / "model.safetensors"
    write_texts(path, network, **{name: text})
    with pytest.raises(ValueError, match=rf"model\.safetensors: {message}"):
        load_weights(path)


class Harm:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder),)


def test_what_has_no_metadata_is_named(network: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_text("<!DOCTYPE html>")
    with pytest.raises(ValueError, match="expected a safetensors file, got an HTML page"):
        load_weights(path)
    torch.save(network.state_dict(), path)
    with pytest.raises(ValueError, match=r"got a file of torch\.save, which does not say .*model\.weights"):
        load_weights(path)
    torch.save({"state_dict": network.state_dict(), "pytorch-lightning_version": "2.5"}, path)
    with pytest.raises(ValueError, match="got a checkpoint of Lightning, which does not say"):
        load_weights(path)
    torch.save({"state_dict": Harm(tmp_path / "harm")}, path)
    with pytest.raises(ValueError, match=r"got a pickle that refers to code, posix\.mkdir, which is not run"):
        load_weights(path)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("wrap", [torch.compile, nn.DataParallel, AveragedModel])
def test_a_wrapped_network_is_written_without_the_wrapper(
    network: nn.Module, tmp_path: Path, wrap: Any
) -> None:
    path = tmp_path / "model.safetensors"
    save_weights(path, wrap(network), metadata())
    assert load_file(path).keys() == network.state_dict().keys()
    load_weights(path)


def test_a_part_that_was_compiled_is_written_by_its_own_name(network: nn.Module, file: Path) -> None:
    network.layer1 = torch.compile(network.layer1)  # type: ignore[assignment, arg-type]
    save_weights(file, network, metadata())
    assert not [name for name in load_file(file) if "_orig_mod" in name]
    load_weights(file)


def test_prefixes_in_a_file_of_ours_are_understood(network: nn.Module, file: Path) -> None:
    save_file(
        {f"_orig_mod.{name}": value for name, value in network.state_dict().items()},
        file,
        metadata={key: json.dumps(value) for key, value in dataclasses.asdict(metadata()).items()},
    )
    loaded, _ = load_weights(file)
    assert torch.equal(loaded.state_dict()["fc.weight"], network.state_dict()["fc.weight"])


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


@pytest.mark.parametrize("suffix", ["pt", "pth", "ckpt", "safetensors"])
def test_start_from_a_state_dict_of_others(
    network: nn.Module, tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    path, state = tmp_path / f"theirs.{suffix}", network.state_dict()
    if suffix == "safetensors":
        save_file(state, path, metadata={"format": "pt"})
    elif suffix == "pt":
        torch.save(state, path, _use_new_zipfile_serialization=False)
    elif suffix == "pth":
        torch.save({"model": {f"module.{name}": value for name, value in state.items()}, "epoch": 1}, path)
    else:
        prefixed = {f"model._orig_mod.{name}": value for name, value in state.items()}
        torch.save({"state_dict": prefixed, "pytorch-lightning_version": "2.5", "loops": {}}, path)
    fresh = metadata().create_model()
    with caplog.at_level(logging.INFO, "sasa"):
        start_from(path, fresh, ["x", "y", "z"])
    assert "it does not name its classes; its classifier layer fits and is kept" in caplog.text
    for name, value in state.items():
        assert torch.equal(value, fresh.state_dict()[name])


@pytest.mark.parametrize("headless", [False, True])
def test_start_from_a_state_dict_with_another_classifier(
    network: nn.Module, tmp_path: Path, headless: bool, caplog: pytest.LogCaptureFixture
) -> None:
    path, state = tmp_path / "theirs.pth", network.state_dict()
    torch.save({k: v for k, v in state.items() if not (headless and k.startswith("fc."))}, path)
    classes = ["x", "y", "z"] if headless else ["x", "y"]
    fresh = metadata(classes=classes).create_model()
    classifier = fresh.get_classifier().weight.clone()  # type: ignore[operator]
    with caplog.at_level(logging.INFO, "sasa"):
        start_from(path, fresh, classes)
    assert "it does not name its classes; the classifier layer 'fc' is initialized anew" in caplog.text
    assert torch.equal(fresh.get_classifier().weight, classifier)  # type: ignore[operator]
    assert torch.equal(fresh.state_dict()["conv1.0.weight"], state["conv1.0.weight"])


def test_start_from_a_resnet_of_torchvision(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = torchvision.models.resnet50(num_classes=2)
    torch.save({f"module.{name}": value for name, value in theirs.state_dict().items()}, tmp_path / "r.pth")
    ours = sasa.create_model("sasa_resnet50_conv", num_classes=2)
    start_from(tmp_path / "r.pth", ours, ["a", "b"])
    assert torch.equal(ours.state_dict()["layer3.2.spatial.weight"], theirs.layer3[2].conv2.weight)  # type: ignore[union-attr, index]


def test_what_is_no_start_is_named(network: nn.Module, tmp_path: Path) -> None:
    path, fresh, classes = tmp_path / "theirs.pth", metadata().create_model(), ["x", "y", "z"]
    path.write_bytes(b"\x08\x08\x12\x07pytorch")
    with pytest.raises(ValueError, match=r"theirs\.pth: expected weights, got an ONNX model"):
        start_from(path, fresh, classes)
    torch.save({"state_dict": Harm(tmp_path / "harm")}, path)
    with pytest.raises(ValueError, match=r"got a pickle that refers to code, posix\.mkdir, which is not run"):
        start_from(path, fresh, classes)
    assert not (tmp_path / "harm").exists()
    torch.save({"epoch": 3}, path)
    with pytest.raises(ValueError, match="expected tensors by name, got a int named 'epoch'"):
        start_from(path, fresh, classes)
    torch.save({f"backbone.{name}": value for name, value in network.state_dict().items()}, path)
    with pytest.raises(ValueError, match=r"theirs\.pth: does not fit ResNet: "):
        start_from(path, fresh, classes)
    with pytest.raises(FileNotFoundError, match=r"got .*missing"):
        start_from(tmp_path / "missing.pth", fresh, classes)


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
    for name in ("cat", "dog"):
        shutil.copytree(folder / "test" / "class0", tmp_path / "other" / "test" / name)
    with pytest.raises(
        ValueError,
        match=r"other: expected the 3 classes \(class0, class1, class2\) of .*, got 2 classes \(cat, dog\)",
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
