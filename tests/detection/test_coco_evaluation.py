"""COCO evaluation: the very numbers of pycocotools' own road through files, and the cases at its edges."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import math
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor

from sasa.data.detection import create_detection_dataset
from sasa.detection import CocoEvaluation

Detections = list[dict[str, Tensor]]

IMAGES = 24
# Out of order, with gaps, and one class (51) without an object.
CATEGORIES = [
    {"id": 51, "name": "kite"},
    {"id": 2, "name": "boat"},
    {"id": 90, "name": "cup"},
    {"id": 7, "name": "owl"},
]
LABEL_OF = {category["id"]: label for label, category in enumerate(CATEGORIES)}


@pytest.fixture(scope="module")
def truth() -> dict[str, Any]:
    """24 images, some empty, 0 … 7 objects of all sizes, a sixth of them crowds, areas below the boxes'."""
    random = np.random.default_rng(5)
    annotations: list[dict[str, Any]] = []
    for image in range(IMAGES):
        for _ in range(int(random.integers(8)) if image % 6 else 0):
            size = np.exp(random.uniform(1.5, 5.5, 2))
            box = [*random.uniform(0, 300, 2).round(2).tolist(), *size.round(2).tolist()]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": 1000 - 7 * image,
                    "category_id": int(random.choice([2, 90, 7])),
                    "bbox": box,
                    "area": round(box[2] * box[3] * float(random.uniform(0.4, 1)), 3),
                    "iscrowd": int(random.integers(6) == 0),
                }
            )
    images = [{"id": 1000 - 7 * image, "width": 640, "height": 640} for image in range(IMAGES)]
    return {"images": images, "annotations": annotations, "categories": CATEGORIES}


def corners(box: list[float]) -> list[float]:
    x, y, width, height = box
    return [x, y, x + width, y + height]


def detections_of(
    truth: dict[str, Any], change: Callable[[Tensor], Tensor] | None, crowds: bool = True
) -> Detections:
    """One detection per object, with a changed box and a score of its own."""
    generator = torch.Generator().manual_seed(3)
    detections = []
    for image in truth["images"]:
        own = [
            entry
            for entry in truth["annotations"]
            if entry["image_id"] == image["id"] and (crowds or not entry["iscrowd"])
        ]
        boxes = torch.tensor([corners(entry["bbox"]) for entry in own]).reshape(-1, 4)
        detections.append(
            {
                "boxes": boxes if change is None else change(boxes),
                "labels": torch.tensor([LABEL_OF[entry["category_id"]] for entry in own], dtype=torch.int64),
                "scores": torch.rand(len(own), generator=generator),
            }
        )
    return detections


def random_detections(truth: dict[str, Any]) -> Detections:
    """Up to 130 detections per image, many of them near objects, scores with ties."""
    generator = torch.Generator().manual_seed(4)
    detections = []
    for exact in detections_of(truth, None):
        near = exact["boxes"].repeat(3, 1)
        near += torch.randn(near.shape, generator=generator) * 6
        near[:, 2:] = near[:, :2] + (near[:, 2:] - near[:, :2]).abs()
        count = int(torch.randint(110, (), generator=generator))
        far = torch.rand(count, 4, generator=generator) * 300
        far[:, 2:] += far[:, :2]
        labels = torch.randint(4, (len(near) + count,), generator=generator)
        labels[: len(near)] = exact["labels"].repeat(3)
        scores = torch.rand(len(labels), generator=generator).mul(50).round() / 50
        detections.append({"boxes": torch.cat([near, far]), "labels": labels, "scores": scores})
    return detections


DETECTIONS: dict[str, Callable[[dict[str, Any]], Detections]] = {
    "perfect": lambda truth: detections_of(truth, None, crowds=False),
    "perfect, crowds too": lambda truth: detections_of(truth, None),
    "shifted": lambda truth: detections_of(truth, lambda boxes: boxes + torch.tensor([3.0, 2.0, 3.0, 2.0])),
    "shifted by a third": lambda truth: detections_of(truth, shift_by_a_third),
    "random": random_detections,
}


def shift_by_a_third(boxes: Tensor) -> Tensor:
    width = (boxes[:, 2] - boxes[:, 0]) / 3
    return boxes + torch.stack([width, 0 * width, width, 0 * width], 1)


def evaluated(truth: dict[str, Any], detections: Detections, batch: int = 5) -> CocoEvaluation:
    """An evaluation that has seen all detections, in batches."""
    evaluation = CocoEvaluation(truth)
    ids = [image["id"] for image in truth["images"]]
    for start in range(0, len(ids), batch):
        evaluation.update(detections[start : start + batch], ids[start : start + batch])
    return evaluation


def by_pycocotools(truth: dict[str, Any], results: list[dict[str, Any]], folder: Path) -> tuple[Any, Any]:
    """pycocotools' own road: two json files, loadRes, the twelve numbers; also its table of precisions."""
    for name, content in (("truth", truth), ("results", results)):
        (folder / f"{name}.json").write_text(json.dumps(content))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(folder / "truth.json"))
        evaluation = COCOeval(coco, coco.loadRes(str(folder / "results.json")), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats, evaluation.eval["precision"]


@pytest.mark.parametrize("kind", DETECTIONS)
def test_the_very_numbers_of_pycocotools(truth: dict[str, Any], tmp_path: Path, kind: str) -> None:
    evaluation = evaluated(truth, DETECTIONS[kind](truth))
    metrics = evaluation.compute()
    stats, precision = by_pycocotools(truth, evaluation.results(), tmp_path)
    assert list(metrics.overall.values()) == stats.tolist()
    for index, number in enumerate(sorted(LABEL_OF)):
        name = CATEGORIES[LABEL_OF[number]]["name"]
        for key, part in (("AP", slice(None)), ("AP50", slice(0, 1)), ("AP75", slice(5, 6))):
            expected = precision[part, :, index, 0, 2]
            if (expected == -1).all():
                assert (name, math.isnan(metrics.by_class[name][key])) == ("kite", True)
            else:
                assert metrics.by_class[name][key] == expected.mean()


def test_reader_and_evaluation_give_the_files_own_numbers(truth: dict[str, Any], tmp_path: Path) -> None:
    images = [{**image, "file_name": f"{image['id']}.png"} for image in truth["images"]]
    categories = sorted(CATEGORIES, key=lambda category: category["id"])
    for image in images:
        Image.new("1", (640, 640)).save(tmp_path / image["file_name"])
    (tmp_path / "photos.json").write_text(json.dumps({**truth, "images": images}))
    dataset = create_detection_dataset(tmp_path / "photos.json")
    evaluation = CocoEvaluation(dataset.ground_truth())
    for kind in DETECTIONS:
        detections = DETECTIONS[kind](truth)
        for index, image_id in enumerate(dataset.image_ids):
            numbers = [CATEGORIES[label]["id"] for label in detections[index]["labels"].tolist()]
            labels = [dataset.category_ids.index(number) for number in numbers]
            evaluation.update(
                [{**detections[index], "labels": torch.tensor(labels, dtype=torch.int64)}], [image_id]
            )
        stats, _ = by_pycocotools(truth, evaluation.results(), tmp_path)
        assert list(evaluation.compute().overall.values()) == stats.tolist()
        evaluation.reset()
    assert dataset.classes == [category["name"] for category in categories]


def test_order_of_names(truth: dict[str, Any]) -> None:
    metrics = evaluated(truth, DETECTIONS["random"](truth)).compute()
    names = "AP AP50 AP75 AP_small AP_medium AP_large AR_1 AR_10 AR_100 AR_small AR_medium AR_large"
    assert list(metrics.overall) == names.split()
    assert list(metrics.by_class) == ["kite", "boat", "cup", "owl"]
    assert 0 < metrics.overall["AP75"] < metrics.overall["AP50"] < 1
    assert metrics.overall["AR_1"] < metrics.overall["AR_10"] <= metrics.overall["AR_100"]
    known = [scores["AP50"] for name, scores in metrics.by_class.items() if name != "kite"]
    assert metrics.overall["AP50"] == pytest.approx(sum(known) / 3, abs=1e-12)


def test_perfect_is_one(truth: dict[str, Any]) -> None:
    for kind in ("perfect", "perfect, crowds too"):
        metrics = evaluated(truth, DETECTIONS[kind](truth)).compute()
        assert metrics.overall["AP"] == pytest.approx(1, abs=1e-12)
        assert metrics.overall["AR_100"] == 1


def test_what_lies_on_a_crowd_is_no_mistake(truth: dict[str, Any]) -> None:
    crowd = {**truth["annotations"][0], "id": 500, "bbox": [0, 0, 600, 600], "area": 360000.0, "iscrowd": 1}
    crowded = {**truth, "annotations": [*truth["annotations"], crowd]}
    image, label = crowd["image_id"], LABEL_OF[crowd["category_id"]]
    detections = DETECTIONS["perfect"](truth)
    index = [entry["id"] for entry in truth["images"]].index(image)
    inside = torch.tensor([[500.0, 500, 580, 580], [510, 5, 590, 590]])
    detections[index] = {
        "boxes": torch.cat([inside, detections[index]["boxes"]]),
        "labels": torch.cat([torch.full((2,), label), detections[index]["labels"]]),
        "scores": torch.cat([torch.tensor([1.0, 1.0]), detections[index]["scores"]]),
    }
    assert evaluated(crowded, detections).compute().overall["AP"] == pytest.approx(1, abs=1e-12)
    assert evaluated(truth, detections).compute().overall["AP"] < 0.99


def test_no_detections_at_all(truth: dict[str, Any]) -> None:
    nothing = {
        "boxes": torch.zeros(0, 4),
        "labels": torch.zeros(0, dtype=torch.int64),
        "scores": torch.zeros(0),
    }
    evaluation = evaluated(truth, [nothing] * IMAGES)
    metrics = evaluation.compute()
    assert set(metrics.overall.values()) == {0.0}
    assert evaluation.results() == []
    assert metrics.by_class["boat"]["AP"] == 0
    assert math.isnan(metrics.by_class["kite"]["AP"])


def test_no_ground_truth_at_all(truth: dict[str, Any]) -> None:
    metrics = evaluated({**truth, "annotations": []}, DETECTIONS["random"](truth)).compute()
    assert all(math.isnan(value) for value in metrics.overall.values())
    assert all(math.isnan(value) for scores in metrics.by_class.values() for value in scores.values())


def test_no_large_objects(truth: dict[str, Any]) -> None:
    small = [entry for entry in truth["annotations"] if entry["area"] < 32**2 and not entry["iscrowd"]]
    part = {**truth, "annotations": small}
    overall = evaluated(part, DETECTIONS["perfect"](part)).compute().overall
    assert overall["AP"] == overall["AP_small"] == pytest.approx(1, abs=1e-12)
    assert math.isnan(overall["AP_large"])


def test_an_annotation_numbered_zero_is_matched(truth: dict[str, Any]) -> None:
    from_zero = [{**entry, "id": entry["id"] - 1} for entry in truth["annotations"]]
    renumbered = {**truth, "annotations": from_zero}
    one, other = (evaluated(part, DETECTIONS["perfect"](truth)).compute() for part in (truth, renumbered))
    assert repr(one) == repr(other)  # in which nan equals nan


@pytest.mark.parametrize(
    "own",
    [lambda number: f"photo-{number:04}", lambda number: number + 0.5, lambda number: 10**20 + number],
    ids=["strings", "floats", "integers above 64 bits"],
)
def test_ids_are_labels(truth: dict[str, Any], own: Callable[[int], Any]) -> None:
    renamed = {
        "images": [{"id": own(image["id"])} for image in truth["images"]],
        "categories": [{**category, "id": own(category["id"])} for category in CATEGORIES],
        "annotations": [
            {**entry, "image_id": own(entry["image_id"]), "category_id": own(entry["category_id"])}
            for entry in truth["annotations"]
        ],
    }
    detections = DETECTIONS["random"](truth)
    plain, labeled = evaluated(truth, detections), evaluated(renamed, detections)
    assert repr(labeled.compute()) == repr(plain.compute())
    assert labeled.results() == [
        {**result, "image_id": own(result["image_id"]), "category_id": own(result["category_id"])}
        for result in plain.results()
    ]


def test_order_and_batches_make_no_difference(truth: dict[str, Any]) -> None:
    detections = DETECTIONS["random"](truth)
    one = evaluated(truth, detections)
    other = CocoEvaluation(truth)
    for index in reversed(range(IMAGES)):
        other.update([detections[index]], [truth["images"][index]["id"]])
    assert one.results() == other.results()
    assert repr(one.compute()) == repr(other.compute())


def test_results_are_cocos_format(truth: dict[str, Any]) -> None:
    detections = DETECTIONS["random"](truth)
    results = evaluated(truth, detections).results()
    assert json.loads(json.dumps(results)) == results
    assert len(results) == sum(len(part["labels"]) for part in detections)
    expected = []
    for image, part in zip(truth["images"], detections, strict=True):
        for (x1, y1, x2, y2), label, score in zip(*(part[key].tolist() for key in part), strict=True):
            category, box = CATEGORIES[label]["id"], [x1, y1, x2 - x1, y2 - y1]
            expected.append({"image_id": image["id"], "category_id": category, "bbox": box, "score": score})
    assert results == expected


def test_silent_and_repeatable(truth: dict[str, Any], capfd: pytest.CaptureFixture[str]) -> None:
    before = json.dumps(truth)
    evaluation = evaluated(truth, DETECTIONS["random"](truth))
    assert repr(evaluation.compute()) == repr(evaluation.compute())
    assert json.dumps(truth) == before
    assert capfd.readouterr() == ("", "")


def test_half_precision_detections(truth: dict[str, Any]) -> None:
    halves = [{**part, "scores": part["scores"].to(torch.bfloat16)} for part in DETECTIONS["perfect"](truth)]
    assert evaluated(truth, halves).compute().overall["AP"] == pytest.approx(1, abs=1e-12)


def test_what_is_not_finite_is_left_out_and_told(
    truth: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    detections = DETECTIONS["perfect"](truth)
    not_finite = [dict(part) for part in detections]
    first = next(index for index in range(IMAGES) if len(detections[index]["labels"]) > 1)
    not_finite[first]["boxes"] = torch.cat(
        [detections[first]["boxes"], torch.tensor([[0, 0, math.nan, 9], [0, 0, 9, 9]])]
    )
    not_finite[first]["labels"] = torch.cat([detections[first]["labels"], torch.zeros(2, dtype=torch.int64)])
    not_finite[first]["scores"] = torch.cat([detections[first]["scores"], torch.tensor([0.5, math.inf])])
    with caplog.at_level(logging.WARNING, "sasa.detection"):
        evaluation = evaluated(truth, not_finite)
    assert evaluation.results() == evaluated(truth, detections).results()
    (message,) = caplog.messages
    assert f"image {truth['images'][first]['id']}: left out 2 of" in message


def test_each_image_must_come_once(truth: dict[str, Any]) -> None:
    detections = DETECTIONS["perfect"](truth)
    evaluation = CocoEvaluation(truth)
    evaluation.update(detections[:-1], [image["id"] for image in truth["images"][:-1]])
    with pytest.raises(ValueError, match="expected all 24 images, got none for 1, such as 839"):
        evaluation.compute()
    evaluation.update(detections[-2:], [image["id"] for image in truth["images"][-2:]])
    with pytest.raises(
        ValueError, match="expected every image once, got 1 images more than once, such as 846"
    ):
        evaluation.results()
    evaluation.reset()
    evaluation.update(detections, [image["id"] for image in truth["images"]])
    assert evaluation.compute().overall["AP"] == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": torch.tensor([4])}, r"labels: expected 0 … 3 for 4 categories, got 4 … 4 for image 1000"),
        ({"labels": torch.tensor([-1])}, r"labels: expected 0 … 3"),
        (
            {"labels": torch.tensor([1, 1])},
            r"boxes \(N, 4\), .* got \(1, 4\), \(1,\) and \(2,\) for image 1000",
        ),
        ({"scores": torch.tensor([[0.5]])}, r"got \(1, 4\), \(1, 1\) and \(1,\)"),
        ({"boxes": torch.zeros(4)}, r"got \(4,\)"),
    ],
)
def test_wrong_detections(truth: dict[str, Any], change: dict[str, Tensor], message: str) -> None:
    good = {"boxes": torch.ones(1, 4), "labels": torch.tensor([1]), "scores": torch.tensor([0.5])}
    with pytest.raises(ValueError, match=message):
        CocoEvaluation(truth).update([{**good, **change}], [1000])


def test_wrong_images(truth: dict[str, Any]) -> None:
    evaluation = CocoEvaluation(truth)
    with pytest.raises(ValueError, match="image_ids: expected ids of the ground truth, got 4"):
        evaluation.update([{}], [4])
    with pytest.raises(ValueError, match=r"image_ids: expected 0 ids, one per image, got \[4\]"):
        evaluation.update([], [4])
    for part in ("images", "categories"):
        with pytest.raises(
            ValueError,
            match=r"ground_truth: expected unique (image|category) ids, got (1000|51) more than once",
        ):
            CocoEvaluation({**truth, part: [*truth[part], truth[part][0]]})


def test_missing_pycocotools(truth: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycocotools.cocoeval", None)
    with pytest.raises(
        ImportError, match=r'needs pycocotools: pip install "\.\[detect\]" in a clone of sasa'
    ):
        CocoEvaluation(truth)


def test_two_processes_get_what_one_gets(truth: dict[str, Any], tmp_path: Path) -> None:
    detections = DETECTIONS["random"](truth)
    torch.save((truth, detections), tmp_path / "detections.pt")
    program = """
        import sys, torch
        from sasa.detection import CocoEvaluation
        rank, folder = int(sys.argv[1]), sys.argv[2]
        torch.distributed.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
        truth, detections = torch.load(f"{folder}/detections.pt", weights_only=True)
        evaluation = CocoEvaluation(truth)
        for index in range(rank, len(detections), 2):
            evaluation.update([detections[index]], [truth["images"][index]["id"]])
        print(repr(evaluation.compute()), len(evaluation.results()))
        torch.distributed.destroy_process_group()
    """
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(program), str(rank), str(tmp_path)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    said = [process.communicate(timeout=120)[0] for process in processes]
    alone = evaluated(truth, detections)
    assert said == [f"{alone.compute()!r} {len(alone.results())}\n"] * 2
