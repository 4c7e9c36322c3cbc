"""Do our reader and evaluation give pycocotools' numbers on real annotations, to the last digit?

    python tools/coco_agreement.py coco128 train2017

FOLDER is in COCO's layout, FOLDER/annotations/instances_SPLIT.json. Our way: images and objects through
`create_detection_dataset`, detections in batches through `CocoEvaluation`. pycocotools' own: the annotation
file and a results file. Detections are the objects themselves, those shifted, and those among random boxes.
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
    """What a detector would return for an image with these objects, (x1, y1, x2, y2) and labels."""
    if kind == "shifted":
        boxes = boxes + 5 * torch.randn(len(boxes), 1)
    if kind == "random":
        corner = 300 * torch.rand(100, 2)
        boxes = torch.cat([boxes, torch.cat([corner, corner + 200 * torch.rand(100, 2)], dim=1)])
        labels = torch.cat([labels, torch.randint(classes, (100,))])
    return {"boxes": boxes, "labels": labels, "scores": torch.rand(len(boxes))}


def by_pycocotools(annotations: Path, results: list[dict[str, object]]) -> list[float]:
    """The twelve numbers, of two files."""
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
    """Print AP by both ways for each kind; 1 where a number differs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("split")
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
            found = detections(kind, boxes, torch.as_tensor(objects.labels), len(data.classes))
            evaluation.update([found], [image_id])
        ours = list(evaluation.compute().overall.values())
        theirs = by_pycocotools(annotations, evaluation.results())
        differ |= ours != theirs
        print(f"{kind:<8} AP {ours[0]!r} and {theirs[0]!r}, all twelve numbers equal: {ours == theirs}")
    return int(differ)


if __name__ == "__main__":
    sys.exit(main())
