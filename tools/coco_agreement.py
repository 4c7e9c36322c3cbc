"""Compare our reader and evaluation with pycocotools on real annotations, to the last digit.

    python tools/coco_agreement.py coco128 train2017

The folder is in COCO's layout, FOLDER/annotations/instances_SPLIT.json. We read images and objects with
`create_detection_dataset` and evaluate detections with `CocoEvaluation`, image by image; pycocotools reads
the annotation file and a file of results. The detections are the objects themselves, shifted objects, and
objects among random boxes.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import tempfile
from pathlib import Path

import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from sasa.data.detection import create_detection_dataset
from sasa.detection import CocoEvaluation

KINDS = ("perfect", "shifted", "random")


def detections(kind: str, boxes: torch.Tensor, labels: torch.Tensor, classes: int) -> dict[str, torch.Tensor]:
    """Return detections for an image with these objects, as a detector does.

    Args:
        kind: One of `KINDS`.
        boxes: (N, 4), x1, y1, x2, y2 in pixels.
        labels: (N,), class indices.
        classes: Number of classes.
    """
    if kind == "shifted":
        boxes = boxes + 5 * torch.randn(len(boxes), 1)
    if kind == "random":
        corner = 300 * torch.rand(100, 2)
        boxes = torch.cat([boxes, torch.cat([corner, corner + 200 * torch.rand(100, 2)], dim=1)])
        labels = torch.cat([labels, torch.randint(classes, (100,))])
    return {"boxes": boxes, "labels": labels, "scores": torch.rand(len(boxes))}


def by_pycocotools(annotations: Path, results: list[dict[str, object]]) -> list[float]:
    """Return the twelve numbers that pycocotools computes from two files."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        file = Path(folder) / "results.json"
        file.write_text(json.dumps(results))
        truth = COCO(str(annotations))
        evaluation = COCOeval(truth, truth.loadRes(str(file)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return list(evaluation.stats.tolist())


def main() -> int:
    """Print both APs for each kind of detections; return 1 if a number differs, else 0."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="data set in COCO's layout")
    parser.add_argument("split", help="split, for example train2017")
    args = parser.parse_args()
    torch.manual_seed(0)
    data = create_detection_dataset(args.folder, args.split)
    annotations = args.folder / "annotations" / f"instances_{args.split}.json"
    differ = False
    for kind in KINDS:
        evaluation = CocoEvaluation(data.ground_truth())
        for index, image_id in enumerate(data.image_ids):
            objects = data.objects(index)
            boxes = torch.as_tensor(objects.boxes, dtype=torch.float32).reshape(-1, 4).clone()
            boxes[:, 2:] += boxes[:, :2]
            detected = detections(kind, boxes, torch.as_tensor(objects.labels), len(data.classes))
            evaluation.update([detected], [image_id])
        ours = list(evaluation.compute().overall.values())
        theirs = by_pycocotools(annotations, evaluation.results())
        differ |= ours != theirs
        print(f"{kind:<8} AP {ours[0]!r} and {theirs[0]!r}, all twelve numbers equal: {ours == theirs}")
    return int(differ)


if __name__ == "__main__":
    sys.exit(main())
