"""What is kept of finished runs' attention, of networks that are not trained."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from sasa.train import WeightsMetadata, plan_sweeps, save_weights
from sasa.train.ablation.ablate import _save_attention_maps
from sasa.train.ablation.plan import Cell

SWEEP = "title: Networks\ncells:\n- {name: a, model: {name: sasa_resnet26_convstem}}\n"
SWEEP += "- {name: c, model: {name: sasa_resnet26_conv}}\n"


@pytest.fixture
def cells(images: Path, recipe: Path, tmp_path: Path) -> tuple[Cell, ...]:
    """A cell with attention and one without, on images of which one is broken, the first of its class."""
    source, path = tmp_path / "images", tmp_path / "networks.yaml"
    shutil.copytree(images, source)
    (source / "test" / "class1" / "0.png").write_bytes(b"broken")
    path.write_text(SWEEP)
    options = [f"--data.source={source}", "--data.on_broken=skip"]
    return plan_sweeps([str(path)], options, recipe)[0].cells


def save(cell: Cell, folder: Path) -> None:
    model = cell.config.model
    metadata = WeightsMetadata(
        model.name, model.options, ["class0", "class1", "class2"], [3, 8, 8], [0.5] * 3, [0.25] * 3
    )
    folder.mkdir()
    save_weights(folder / "model.safetensors", metadata.create_model(), metadata)


def test_a_broken_image_is_left_out_as_in_training(cells: tuple[Cell, ...], tmp_path: Path) -> None:
    save(cells[0], tmp_path / "run")
    _save_attention_maps([(cells[0], tmp_path / "run")])
    with np.load(tmp_path / "run" / "attention.npz") as file:
        assert file["captions"].tolist() == ["class0", "class1", "class2"]


def test_a_run_whose_weights_are_gone_is_told(
    cells: tuple[Cell, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _save_attention_maps([(cells[0], tmp_path / "run")])
    assert (
        capsys.readouterr().out == f"{tmp_path / 'run'}: no attention maps, since the weights are missing\n"
    )


def test_a_network_without_attention_is_not_loaded(
    cells: tuple[Cell, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model.safetensors").write_text("no weights")
    _save_attention_maps([(cells[1], tmp_path / "run")])
    assert capsys.readouterr().out == ""
