"""Two runs or recipes side by side."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import sasa
from sasa.cli import main
from sasa.train import TrainConfig, compare, save_config, train
from sasa.train.ablation import comparison
from sasa.train.ablation.inference_time import Timed

TINY = {"width_mult": 0.125, "num_heads": 1, "stem_stride": 1}


def recipe(config: TrainConfig, path: Path) -> Path:
    save_config(config, path)
    return path


def test_a_run_beside_a_recipe(
    make_config: Callable[..., TrainConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = {"data": {"input_size": 8}, "optimizer": {"epochs": 1}}
    config = make_config("run", model={"name": "sasa_resnet26_convstem", "options": TINY}, **small)
    results = train(config)
    other = make_config("other", model={"name": "sasa_resnet26_conv", "options": TINY}, **small, seed=4)
    file = recipe(other, tmp_path / "other.yaml")
    found = compare(config.folder, file)
    assert (found.first.top1, found.first.loss) == (results["top1"], results["loss"])
    assert (found.first.parameters, found.first.flops) == (results["parameters"], results["flops"])
    assert found.first.peak_memory_bytes == results["peak_memory_bytes"] > 2**20
    assert found.first.training_images_per_second == pytest.approx(16 / results["training_seconds"])
    network = sasa.create_model("sasa_resnet26_conv", num_classes=3, **TINY)
    assert found.second.flops == sasa.cost(network, (3, 8, 8)).flops
    assert found.second.parameters == sasa.cost(network, (3, 8, 8)).parameters
    assert found.second.top1 is None
    assert min(found.first.inference_seconds, found.second.inference_seconds) > 0
    assert found.differences == {
        "model.name": ("sasa_resnet26_convstem", "sasa_resnet26_conv"),
        "seed": (3, 4),
    }

    capsys.readouterr()
    report = tmp_path / "comparison.json"
    assert main(["compare", str(file), str(config.folder), "--json", str(report)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"A: {file}, sasa_resnet26_conv"
    (accuracy,) = (line.split() for line in lines if line.startswith("test top-1"))
    assert accuracy == ["test", "top-1,", "%", "–", f"{100 * results['top1']:.2f}", "–"]
    (parameters,) = (line.split() for line in lines if line.startswith("parameters"))
    assert parameters[-1] == f"{results['parameters'] / found.second.parameters:.3f}"
    assert "  model.name: sasa_resnet26_conv | sasa_resnet26_convstem" in lines
    assert json.loads(report.read_text())["second"]["top1"] == results["top1"]
    machine = f"cpu (threads: {results['threads']}, processes: 1)"
    assert f"B was trained on {machine}, memory of the whole process" in lines
    assert found.first.trained_on == machine
    assert found.second.trained_on is None


@pytest.mark.parametrize("threads", [1, 2])
def test_speed_and_memory_of_unlike_machines_have_no_ratio(
    make_config: Callable[..., TrainConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    threads: int,
) -> None:
    """Results are written here, as those of runs on other machines would be."""
    network = sasa.create_model("sasa_resnet26_conv", num_classes=3, **TINY)
    monkeypatch.setattr(comparison, "load_weights", lambda path: (network, None))
    folders = []
    for name, number in (("one", 1), ("other", threads)):
        config = make_config(name, model={"name": "sasa_resnet26_conv", "options": TINY})
        config.folder.mkdir()
        save_config(config, config.folder / "config.yaml")
        results = {"steps": 5, "training_seconds": 2.0, "peak_memory_bytes": 10**9, "top1": 0.5, "loss": 1.0}
        results |= {"device": "cpu", "threads": number, "processes": 1}
        (config.folder / "results.json").write_text(json.dumps(results))
        folders.append(str(config.folder))
    assert main(["compare", *folders]) == 0
    lines = capsys.readouterr().out.splitlines()
    for label in ("training, images/s", "peak memory of training, MB"):
        (line,) = (line for line in lines if line.startswith(label))
        assert line.split()[-1] == ("1.000" if threads == 1 else "–")


def test_what_cannot_be_compared(make_config: Callable[..., TrainConfig], tmp_path: Path) -> None:
    file = recipe(make_config(), tmp_path / "one.yaml")
    with pytest.raises(
        FileNotFoundError, match=r"run: expected a run folder or a recipe, got .* without config\.yaml"
    ):
        compare(file, tmp_path)
    with pytest.raises(
        FileNotFoundError, match="run: expected a run folder or a recipe, got nowhere, which does not exist"
    ):
        compare("nowhere", file)
    detector = tmp_path / "detector.yaml"
    detector.write_text("model: {backbone: sasa_resnet26}\n")
    with pytest.raises(
        ValueError, match=r"detector\.yaml: expected a classifier's configuration, got 'DetectionConfig'"
    ):
        compare(file, detector)
    neither = tmp_path / "neither.yaml"
    neither.write_text("model: {nam: sasa_resnet26}\n")
    with pytest.raises(ValueError, match=r"model\.nam: unknown key; did you mean 'model\.name'"):
        compare(file, neither)
    for part in ("model", "data"):
        faulty = tmp_path / "faulty.yaml"
        faulty.write_text(f"{part}: {{options: {{widht: 1}}}}\n")
        with pytest.raises(ValueError, match=f"^{part}: .*widht"):
            compare(file, faulty)


def test_two_precisions(
    make_config: Callable[..., TrainConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed: dict[int, str] = {}

    def inference_seconds(networks: dict[int, Timed]) -> dict[int, float]:
        timed.update({key: one.precision for key, one in networks.items()})
        return dict.fromkeys(networks, 1.0)

    monkeypatch.setattr(comparison, "inference_seconds", inference_seconds)
    one = recipe(make_config(), tmp_path / "one.yaml")
    half = recipe(make_config(runtime={"precision": "bf16-mixed"}), tmp_path / "half.yaml")
    assert compare(one, half).differences == {"runtime.precision": ("32-true", "bf16-mixed")}
    assert timed == {0: "32-true", 1: "bf16-mixed"}
