"""A detector's run: its folder and figures, what it learns, resume, and data at the edges."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import sasa
from sasa.data.detection import create_detection_dataset
from sasa.detection import CocoEvaluation
from sasa.train import (
    BUILT_IN_WEIGHTS,
    DetectionConfig,
    DetectorMetadata,
    WeightsMetadata,
    detect_in_test_images,
    evaluate_detector,
    load_config,
    load_detector,
    resume,
    save_config,
    save_weights,
    train,
)
from sasa.train.checkpoints import read_checkpoint
from sasa.train.detection.loss import detection_loss
from sasa.train.detection.metrics import DetectionMetrics
from sasa.train.detection.task import DetectionTask
from sasa.train.detection.weights import create_detector
from sasa.train.modules import TrainingModule

URL = {"url": "http://127.0.0.1:9/weights.pth"}
MakeConfig = Callable[..., DetectionConfig]
Run = tuple[DetectionConfig, dict[str, Any]]


def table(folder: Path) -> list[dict[str, str]]:
    """metrics.csv without what the clock says."""
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [
        {key: value for key, value in row.items() if key not in ("seconds", "images_per_second")}
        for row in rows
    ]


def test_learns_four_scenes_by_heart(learned: Run) -> None:
    """Measured: the loss falls from 1.77 to 0.24, and AP50 is 0.83."""
    config, results = learned
    rows = table(config.folder)
    assert results["steps"] == len(rows) == 40
    assert float(rows[-1]["train_loss"]) < 0.25 * float(rows[0]["train_loss"])
    assert float(rows[0]["val_AP50"]) < 0.1
    assert results["AP50"] > 0.6


def test_run_folder_and_results(learned: Run) -> None:
    config, results = learned
    folder = config.folder
    assert json.loads((folder / "results.json").read_text()) == results
    assert load_config(folder / "config.yaml", DetectionConfig) == config
    assert (results["training_images"], results["images"]) == (4, 4)
    assert list(results["by_class"]) == create_detection_dataset("scenes").classes
    rows = table(folder)
    assert [(row["epoch"], row["step"]) for row in rows[:2]] == [("1", "1"), ("2", "2")]
    assert {"lr", "train_loss", "val_loss", "val_AP", "val_AP50", "val_AP75"} < set(rows[0])
    assert results["val_AP"] == float(rows[-1]["val_AP"])
    assert results["AP"] == pytest.approx(results["val_AP"], abs=1e-6), "the same images"

    detector, about = load_detector(folder)
    assert results["parameters"] == sum(p.numel() for p in detector.parameters())
    assert about.metrics == {name: value for name, value in results.items() if name[:2] in ("AP", "AR")}
    assert (about.size, about.classes) == (64, create_detection_dataset("scenes").classes)
    assert detector.transform.min_size == (64,)
    assert detector.transform.max_size == 64


def test_evaluation_gives_the_runs_own_figures_and_cocos_results(learned: Run, tmp_path: Path) -> None:
    """The results file, evaluated anew, has the metrics that were said, of the run's own test images."""
    config, results = learned
    scenes = config.data.options
    file = tmp_path / "found.json"
    again = evaluate_detector(config.folder, batch_size=4, results_file=file)
    assert (again["data"], again["split"], again["data_options"]) == ("scenes", "train", scenes)
    metrics = [name for name in results if name[:2] in ("AP", "AR")]
    assert len(metrics) == 12
    assert results["AP"] > 0
    for name in (*metrics, "by_class", "loss", "images"):
        assert again[name] == results[name], name

    truth = create_detection_dataset("scenes", "train", **scenes)
    evaluation = CocoEvaluation(truth.ground_truth())
    found = json.loads(file.read_text())
    label_of = {number: label for label, number in enumerate(truth.category_ids)}
    for image_id in truth.image_ids:
        own = [entry for entry in found if entry["image_id"] == image_id]
        boxes = torch.tensor([entry["bbox"] for entry in own], dtype=torch.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        labels = torch.tensor([label_of[entry["category_id"]] for entry in own], dtype=torch.int64)
        scores = torch.tensor([entry["score"] for entry in own], dtype=torch.float64)
        evaluation.update([{"boxes": boxes, "labels": labels, "scores": scores}], [image_id])
    assert evaluation.compute().overall["AP"] == pytest.approx(results["AP"], abs=1e-9)


KILL_AT = Path(__file__).parents[1] / "kill_at.py"


def test_a_killed_run_ends_as_if_never_killed(make_config: MakeConfig, tmp_path: Path) -> None:
    """Killed within its last epoch, and while the first was validated, before any checkpoint."""
    whole = make_config("whole", optimizer={"name": "muon", "lr_base": 0.5, "epochs": 3, "clip_grad": 1.0})
    save_config(whole, tmp_path / "config.yaml")
    moments = {"mid-epoch": 2, "in-validation": 0}
    killed = [f"{moment}:{tmp_path / moment}" for moment in moments]
    subprocess.run(
        [sys.executable, str(KILL_AT), str(tmp_path / "config.yaml"), *killed],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
        timeout=300,
    )
    train(whole)
    expected = load_file(whole.folder / "model.safetensors")
    for moment, epochs in moments.items():
        folder = tmp_path / moment
        assert not (folder / "results.json").exists()
        assert len(list((folder / "checkpoints").glob("epoch-*.ckpt"))) == epochs
        resume(folder)
        weights = load_file(folder / "model.safetensors")
        assert weights.keys() == expected.keys()
        assert all(torch.equal(weights[name], expected[name]) for name in expected)
        assert table(folder) == table(whole.folder)
    assert len(table(whole.folder)) == 3


def test_the_best_checkpoint_is_the_one_of_highest_ap(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute, given = DetectionMetrics.compute, iter([0.2, 0.5, 0.3, 0.0])

    def decided(self: DetectionMetrics) -> dict[str, Any]:
        ap = next(given)
        return {**compute(self), "AP": ap, "AP50": 1 - ap, "AP75": 1 - ap}

    monkeypatch.setattr(DetectionMetrics, "compute", decided)
    config = make_config(optimizer={"epochs": 3})
    train(config)
    assert read_checkpoint(config.folder / "checkpoints" / "best.ckpt")["epoch"] == 1


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """COCO's layout: images of several sizes, four of six without objects, a crowd among the others."""
    root = tmp_path / "photos"
    (root / "annotations").mkdir(parents=True)
    sizes = [(40, 60), (64, 48), (30, 30), (64, 64), (50, 20), (33, 47)]
    for split in ("train2017", "val2017"):
        (root / split).mkdir()
        images = []
        for number, size in enumerate(sizes, 1):
            Image.new("RGB", size, (number * 30, 90, 10)).save(root / split / f"{number}.png")
            images.append({"id": number, "file_name": f"{number}.png", "width": size[0], "height": size[1]})
        boxes = [(1, [5, 5, 25, 40], 0), (2, [0, 0, 64, 48], 1), (2, [10, 10, 30, 30], 0)]
        annotations = [
            {"id": number, "image_id": image, "category_id": 7, "bbox": box, "iscrowd": crowd}
            for number, (image, box, crowd) in enumerate(boxes, 1)
        ]
        content = {
            "images": images,
            "annotations": annotations,
            "categories": [{"id": 7, "name": "thing"}],
        }
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return root


def test_images_without_objects_and_of_any_size(make_config: MakeConfig, photos: Path) -> None:
    """With one image a batch, most steps have no box at all."""
    config = make_config(
        data={"source": str(photos), "options": {}},
        optimizer={"batch_size": 1, "epochs": 1, "warmup_epochs": 0.0, "lr_base": 0.1},
    )
    results = train(config)
    assert (results["steps"], results["images"], results["skipped_objects"]) == (6, 6, 0)
    assert results["loss"] > 0
    assert results["AP_large"] is None, "nothing is larger than 96 × 96"
    assert list(results["by_class"]) == ["thing"]

    file = photos / "annotations" / "instances_val2017.json"
    content = json.loads(file.read_text())
    content["annotations"] = [entry for entry in content["annotations"] if not entry["iscrowd"]]
    file.write_text(json.dumps(content))
    again = evaluate_detector(config.folder, photos, "val", batch_size=1)
    assert again["loss"] == results["loss"], "crowds have no part in the loss"


@pytest.mark.parametrize("frozen", [False, True])
def test_backbone_from_a_classifier(make_config: MakeConfig, tmp_path: Path, frozen: bool) -> None:
    about = WeightsMetadata(
        "sasa_resnet26",
        {"width_mult": 0.125, "num_heads": 2, "kernel_size": 3},
        ["a", "b"],
        [3, 64, 64],
        [0.25, 0.5, 0.75],
        [0.5, 0.25, 0.125],
    )
    torch.manual_seed(1)
    network = about.create_model()
    with torch.no_grad():
        network.layer1[0].bn1.running_mean.fill_(0.25)  # type: ignore[index, union-attr]
    save_weights(tmp_path / "classifier.safetensors", network, about)
    config = make_config(
        model={
            "backbone": None,
            "backbone_options": {},
            "classifier": str(tmp_path / "classifier.safetensors"),
            "frozen_batch_norm": frozen,
        },
        optimizer={"epochs": 1, "warmup_epochs": 0.0, "lr_base": 1e-9, "ema_decay": 0.0},
    )
    train(config)
    detector, said = load_detector(config.folder)
    assert (said.backbone, said.backbone_options) == (about.model, about.options)
    assert (said.mean, said.std) == (about.mean, about.std)
    theirs, ours = network.state_dict(), detector.backbone.body.state_dict()
    torch.testing.assert_close(ours["layer1.0.conv1.weight"], theirs["layer1.0.conv1.weight"])
    running = "layer1.0.bn1.running_mean"
    assert torch.equal(ours[running], theirs[running]) == frozen


def test_what_a_backbone_began_from_is_not_needed_again(make_config: MakeConfig, tmp_path: Path) -> None:
    """Neither at the end, nor to resume or evaluate; mean and deviation stay those of its settings."""
    torch.manual_seed(0)
    file = tmp_path / "start.pth"
    state = sasa.create_model("test_resnet").state_dict()
    torch.save(state, file)
    mean, std = [0.1, 0.2, 0.3], [0.3, 0.2, 0.1]
    overlay = {"file": str(file), "mean": mean, "std": std}
    config = make_config(
        model={
            "backbone": "test_resnet",
            "backbone_options": {"pretrained": True, "pretrained_cfg_overlay": overlay},
            "frozen_batch_norm": True,
        },
        optimizer={"ema_decay": 0.0},
    )
    build = DetectionTask.build_network

    def built_once(self: DetectionTask, *, initial: bool = True) -> None:
        build(self, initial=initial)
        body = self.network.backbone.body.state_dict()  # type: ignore[union-attr]
        assert torch.equal(body["conv1.0.weight"], state["conv1.0.weight"])
        file.unlink()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DetectionTask, "build_network", built_once)
        train(config)
    folder = config.folder
    whole = load_file(folder / "model.safetensors")
    for name in ("results.json", "model.safetensors", "checkpoints/epoch-0002.ckpt"):
        (folder / name).unlink()
    resume(folder)
    resumed = load_file(folder / "model.safetensors")
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)
    about = load_detector(folder)[1]
    assert (about.backbone_options, about.mean, about.std) == ({}, mean, std)
    assert evaluate_detector(folder)["images"] == 5


@pytest.mark.parametrize(
    "options", [{"pretrained": True}, {"pretrained": True, "pretrained_cfg": URL}, {"checkpoint_path": "/x"}]
)
def test_a_file_of_weights_leads_to_no_other(
    tmp_path: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = []
    monkeypatch.setattr("timm.models._builder.load_pretrained", lambda *a, **k: loaded.append(a))
    monkeypatch.setattr("timm.models._factory.load_checkpoint", lambda *a, **k: loaded.append(a))
    heads = {"fpn_channels": 16, "num_heads": 2, "kernel_size": 3}
    about = DetectorMetadata("test_resnet", {}, heads, ["a"], 64, [0.5] * 3, [0.5] * 3)
    texts = {key: json.dumps(value) for key, value in dataclasses.asdict(about).items()}
    path = tmp_path / "model.safetensors"
    state = about.create_model().state_dict()
    save_file(state, path, {**texts, "backbone_options": json.dumps(options)})
    assert load_detector(path)[1] == about
    assert loaded == []
    save_file(state, path, {**texts, "options": json.dumps({**heads, "backbone_options": options})})
    with pytest.raises(ValueError, match=r"its metadata describe no network: .*backbone_options"):
        load_detector(path)
    assert loaded == []


def test_position_embeddings_of_pyramid_and_heads_are_not_decayed(make_config: MakeConfig) -> None:
    config = make_config(optimizer={"weight_decay": 0.25})
    network, _ = create_detector(config, ["a"], 64)
    metrics = DetectionMetrics(create_detection_dataset("scenes").ground_truth())
    module = TrainingModule(network, detection_loss, metrics, config.optimizer, steps_per_epoch=3)
    optimizer = module.configure_optimizers()["optimizer"]
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    decayed = {
        names[id(parameter)]
        for group in optimizer.param_groups
        if group["weight_decay"]
        for parameter in group["params"]
    }
    assert {name for name in decayed if name.endswith(("rel_row", "rel_col", "bias"))} == set()
    assert "head.classification_head.cls_logits.1.weight" in decayed
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.5 * 2 / 64 / 2), (
        "the first of two steps of warm-up"
    )


@pytest.mark.parametrize("options", [{"precision": "bf16-mixed", "channels_last": True}, {"compile": True}])
def test_options_of_the_machine(
    make_config: MakeConfig, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    compile_module = torch.nn.Module.compile
    compiled = []

    def without_code_generation(self: torch.nn.Module) -> None:
        compiled.append(type(self).__name__)
        compile_module(self, backend="eager")

    monkeypatch.setattr(torch.nn.Module, "compile", without_code_generation)
    conv = {
        "backbone": "sasa_resnet26_conv",
        "backbone_options": {"width_mult": 0.125},
        "options": {"fpn_channels": 16, "fpn_and_heads": "conv"},
    }
    model = conv if "compile" in options else None
    config = make_config(model=model, runtime=options, optimizer={"epochs": 1, "warmup_epochs": 0.0})
    train(config)
    assert compiled == (["Backbone", "Head"] if "compile" in options else [])
    weights = load_file(config.folder / "model.safetensors")
    assert all(value.dtype in (torch.float32, torch.int64) for value in weights.values())
    assert [name for name, value in weights.items() if not value.isfinite().all()] == []


def test_pictures_show_test_images_with_objects(learned: Run) -> None:
    config, _ = learned
    images = detect_in_test_images(config.folder, 2)
    test = create_detection_dataset("scenes", config.data.test_split, **config.data.options)
    with_objects = [index for index in range(len(test)) if len(test.objects(index))]
    assert len(images) == 2
    for index, example in zip(with_objects, images, strict=False):
        assert example.image.tobytes() == test.image(index).tobytes()
        assert example.ground_truth.boxes == test.target(index)["boxes"].tolist()
        names = [test.classes[label] for label in test.target(index)["labels"]]
        assert example.ground_truth.names == names
        assert example.detections.scores == sorted(example.detections.scores, reverse=True)
        assert min(example.detections.scores) >= 0.3
        assert set(names) <= set(example.detections.names), "learned by heart"
    with pytest.raises(FileNotFoundError, match="folder of a finished run, got "):
        detect_in_test_images(config.folder / "checkpoints")


def test_other_weights_and_other_classes_are_refused(learned: Run, photos: Path, tmp_path: Path) -> None:
    config, _ = learned
    with pytest.raises(ValueError, match=r"expected the 10 classes .* of .*, got 1 classes \(thing\)"):
        evaluate_detector(config.folder, photos)
    about = WeightsMetadata("test_resnet", {}, ["a"], [3, 16, 16], [0.5] * 3, [0.5] * 3)
    save_weights(tmp_path / "other.safetensors", about.create_model(), about)
    with pytest.raises(
        ValueError, match=r"expected metadata of DetectorMetadata, got none of backbone, .*written by sasa"
    ):
        load_detector(tmp_path / "other.safetensors")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            {"optimizer": {"batch_size": 6}},
            "optimizer.batch_size: expected at most 5, the number of training images, got 6",
        ),
        ({"data": {"train_split": "exam"}}, "split.*test.*'exam'"),
        ({"data": {"source": "/nowhere", "options": {}}}, "'/nowhere'"),
        ({"model": {"backbone": "sasa_resnet27"}}, "'sasa_resnet27'"),
        ({"model": {"options": {"fpn_channels": 12}}}, "fpn_channels: expected a positive multiple of 16"),
        (
            {"runtime": {"precision": "16-mixed"}},
            "runtime.precision: expected 32-true or bf16-mixed on this machine",
        ),
        ({"data": {"options": {"length": 3, "max_items": 0}}}, "expected training objects, got none"),
    ],
)
def test_faults_are_found_before_the_first_step(
    make_config: MakeConfig, overrides: dict[str, Any], message: str
) -> None:
    config = make_config(**overrides)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        train(config)
    assert not config.folder.exists(), "a run that did not start leaves nothing behind"


def test_a_run_starts_from_the_classifier_that_comes_with_sasa(make_config: MakeConfig) -> None:
    config = make_config(
        model={"backbone": None, "backbone_options": {}, "classifier": "built-in"},
        optimizer={"epochs": 1, "warmup_epochs": 0.0, "lr_base": 1e-9, "ema_decay": 0.0},
    )
    train(config)
    detector, about = load_detector(config.folder)
    assert about.backbone_options == {"width_mult": 0.25, "num_heads": 4, "kernel_size": 5}
    assert about.mean == [0.2867] * 3
    theirs, ours = load_file(BUILT_IN_WEIGHTS), detector.backbone.body.state_dict()
    for name in ("layer1.0.conv1.weight", "layer4.0.spatial.rel_row"):
        torch.testing.assert_close(ours[name], theirs[name].float())
