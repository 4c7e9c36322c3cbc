"""Runs as folders of timm, and as repositories of the Hugging Face Hub, which is not asked."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import yaml
from PIL import Image
from safetensors import safe_open

import sasa
from sasa.cli import main
from sasa.deploy import push
from sasa.deploy.hub import _public
from sasa.train import (
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    RuntimeConfig,
    TrainConfig,
    load_weights,
    train,
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a few steps."""
    folder = tmp_path_factory.mktemp("secret place")
    for split, count in (("train", 10), ("test", 4)):
        for index in range(count):
            path = folder / "pictures" / split / ("cat", "dog")[index % 2] / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.effect_noise((8, 8), 50).convert("RGB").save(path)
    config = TrainConfig(
        model=ModelConfig(
            "sasa_resnet26", {"width_mult": 0.125, "num_heads": 1, "kernel_size": 3, "stem_stride": 1}
        ),
        data=DataConfig(str(folder / "pictures"), input_size=8, val_fraction=0.2),
        optimizer=OptimizerConfig(batch_size=4, epochs=1),
        runtime=RuntimeConfig(accelerator="cpu"),
        run=str(folder / "run"),
    )
    train(config)
    return config.folder


def test_a_run_folder_is_one_of_timm(run: Path) -> None:
    ours, metadata = load_weights(run)
    theirs = timm.create_model(f"local-dir:{run}", pretrained=True).eval()
    x = torch.rand(2, 3, 8, 8)
    assert torch.equal(theirs(x), ours(x))
    assert theirs.pretrained_cfg["label_names"] == metadata.classes
    settings = timm.data.resolve_data_config({}, model=theirs)
    assert settings["input_size"] == (3, 8, 8)
    assert (list(settings["mean"]), list(settings["std"])) == (metadata.mean, metadata.std)
    assert (settings["crop_pct"], settings["interpolation"]) == (1.0, "bilinear")


def test_the_repository(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["push", str(run), "owner/some-name", "--folder", str(tmp_path)]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"README.md", "config.json", "model.safetensors"}
    x = torch.rand(2, 3, 8, 8)
    assert "secret" not in str(load_weights(tmp_path)[1])
    model = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    assert torch.equal(model(x), load_weights(tmp_path)[0](x))
    card = (tmp_path / "README.md").read_text()
    head = yaml.safe_load(card.split("---")[1])
    (result,) = head["model-index"][0]["results"]
    assert result["dataset"]["name"] == "pictures"
    assert 0 <= result["metrics"][0]["value"] <= 100
    assert 'timm.create_model("hf-hub:owner/some-name", pretrained=True)' in card
    with safe_open(tmp_path / "model.safetensors", framework="pt") as file:
        texts = " ".join(file.metadata().values())
    for text in (card, texts):
        assert "secret place" not in text, "no folder of this machine"


def test_paths_in_a_recipe() -> None:
    recipe = {
        "model": {"weights": "secret/start.pt", "options": {"file": "/secret/x.bin"}},
        "data": {"source": "hfds/cifar10", "options": {"root": "~/secret/cache"}},
        "run": "secret",
    }
    assert _public(recipe) == {
        "model": {"weights": "start.pt", "options": {"file": "x.bin"}},
        "data": {"source": "hfds/cifar10", "options": {"root": "cache"}},
    }


def test_push_uploads_these_files(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    class Hub:
        def create_repo(self, name: str, **options: Any) -> None:
            calls.append((name, options))

        def upload_folder(self, *, repo_id: str, folder_path: str, commit_message: str) -> Any:
            calls.append((repo_id, sorted(os.listdir(folder_path))))
            return type("Commit", (), {"commit_url": "https://example.org/commit"})

    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    assert push(run, "owner/name", private=True) == "https://example.org/commit"
    assert calls == [
        ("owner/name", {"private": True, "exist_ok": True}),
        ("owner/name", ["README.md", "config.json", "model.safetensors"]),
    ]


def test_offline(run: Path) -> None:
    command = [sys.executable, "-m", "sasa.cli", "push", str(run), "owner/name"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert re.search(r"^sasa: error: .*offline", ended.stderr, re.MULTILINE)


def test_what_is_no_finished_classifier(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["push", str(tmp_path), "owner/name", "--folder", str(tmp_path / "out")]) == 2
    assert "run: expected the folder of a finished run with model.safetensors" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_torch_hub() -> None:
    repository = str(Path(__file__).parents[2])
    model = torch.hub.load(repository, "sasa_resnet26", source="local", num_classes=3, width_mult=0.25)
    assert isinstance(model, sasa.models.SASAResNet)
    assert model.num_classes == 3
    assert torch.hub.load(repository, "sasav2_resnet26_hybrid", source="local", width_mult=0.25)
