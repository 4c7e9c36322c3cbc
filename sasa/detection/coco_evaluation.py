"""Evaluation of detections by pycocotools, COCO's own code."""

from __future__ import annotations

import contextlib
import io
import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed
from torch import Tensor

from sasa.errors import require

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_logger = logging.getLogger(__name__)

Id = int | float | str
"""The id of an image or category."""

# In the order of COCOeval.stats.
_NAMES = (
    "AP",
    "AP50",
    "AP75",
    "AP_small",
    "AP_medium",
    "AP_large",
    "AR_1",
    "AR_10",
    "AR_100",
    "AR_small",
    "AR_medium",
    "AR_large",
)


@dataclass(frozen=True)
class CocoMetrics:
    """COCO's metrics, in [0, 1]; nan if there is no ground truth for a metric.

    Attributes:
        overall: "AP" (averaged over the IoU thresholds 0.5, 0.55 … 0.95 and the classes), "AP50", "AP75",
            "AP_small", "AP_medium", "AP_large" (areas up to 32², 96² and above), and average recalls: "AR_1",
            "AR_10", "AR_100" (with this many detections per image), "AR_small", "AR_medium", "AR_large".
        by_class: "AP", "AP50" and "AP75" of each class by its name.
    """

    overall: dict[str, float]
    by_class: dict[str, dict[str, float]]


class CocoEvaluation:
    """Collects detections over batches and processes and evaluates them against COCO annotations.

    Every image of the ground truth must be evaluated exactly once. For a selection of the images, give the
    ground truth of the selection (DetectionDataset.select).

    Args:
        ground_truth: The content of a COCO annotation file (DetectionDataset.ground_truth): lists "images"
            (id), "annotations" (image_id, category_id, bbox, area, iscrowd) and "categories" (id, name).
            Label l of a detection is the category at index l. The ids of images and categories may be numbers
            or strings. The ids of annotations have no effect.

    Raises:
        ImportError: pycocotools is not installed.
        ValueError: An image or category occurs more than once.
    """

    def __init__(self, ground_truth: Mapping[str, Any]) -> None:
        try:
            import pycocotools.cocoeval  # noqa: F401
        except ImportError as error:
            raise ImportError(
                'COCO evaluation needs pycocotools: pip install ".[detect]" in a clone of sasa'
            ) from error
        self._images: list[Id] = [image["id"] for image in ground_truth["images"]]
        self._categories = list(ground_truth["categories"])
        self._annotations = list(ground_truth["annotations"])
        for name, values in (
            ("image ids", self._images),
            ("category ids", [category["id"] for category in self._categories]),
            ("category names", [category["name"] for category in self._categories]),
        ):
            repeated = [value for value, count in Counter(values).items() if count > 1]
            if repeated:
                raise ValueError(f"ground_truth: expected unique {name}, got {repeated[0]!r} more than once")
        # pycocotools breaks ties in the order of the ids, which must be numbers that NumPy represents.
        self._image_numbers = _numbers(self._images)
        self._category_numbers = _numbers([category["id"] for category in self._categories])
        # For each image evaluated in this process: its id and its detections in COCO's results format.
        self._detections: list[tuple[Id, list[dict[str, Any]]]] = []

    def reset(self) -> None:
        """Remove all detections."""
        self._detections = []

    def update(self, detections: Sequence[Mapping[str, Tensor]], image_ids: Sequence[Id]) -> None:
        """Add the detections in some images.

        Detections with a box or score that is not finite are left out, with a warning in the log.

        Args:
            detections: torchvision's output: for each image a dict of boxes (N, 4), x1 y1 x2 y2 in pixels of
                the image as annotated, scores (N,) and labels (N,), 0 ≤ label < C; N may be 0.
            image_ids: The id of each image.

        Raises:
            ValueError: The lengths differ, an id is unknown, or a label is out of range.
        """
        lengths_agree = len(detections) == len(image_ids)
        require(lengths_agree, "image_ids", f"{len(detections)} ids, one per image", list(image_ids))
        for result, image_id in zip(detections, image_ids, strict=True):
            require(image_id in self._image_numbers, "image_ids", "ids of the ground truth", image_id)
            self._detections.append((image_id, self._as_results(result, image_id)))

    def _as_results(self, detections: Mapping[str, Tensor], image_id: Id) -> list[dict[str, Any]]:
        boxes, scores, labels = (detections[key].detach().cpu() for key in ("boxes", "scores", "labels"))
        if boxes.shape != (len(labels), 4) or scores.shape != labels.shape or labels.ndim != 1:
            raise ValueError(
                "detections: expected boxes (N, 4), scores (N,) and labels (N,), got "
                f"{tuple(boxes.shape)}, {tuple(scores.shape)} and {tuple(labels.shape)} for image {image_id}"
            )
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(self._categories):
            raise ValueError(
                f"labels: expected 0 … {len(self._categories) - 1} for {len(self._categories)} categories, "
                f"got {int(labels.min())} … {int(labels.max())} for image {image_id}"
            )
        finite = boxes.isfinite().all(1) & scores.isfinite()
        if not finite.all():
            _logger.warning(
                "image %s: left out %d of %d detections, which are not finite",
                image_id,
                int((~finite).sum()),
                len(finite),
            )
        xywh = boxes[finite].to(torch.float64)
        xywh[:, 2:] -= xywh[:, :2]
        return [
            {
                "image_id": image_id,
                "category_id": self._categories[label]["id"],
                "bbox": box,
                "score": score,
            }
            for box, score, label in zip(
                xywh.tolist(), scores[finite].tolist(), labels[finite].tolist(), strict=True
            )
        ]

    def results(self) -> list[dict[str, Any]]:
        """The detections of all processes in COCO's results format, ready for json.dump.

        All processes must call it.

        Returns:
            Dicts of image_id, category_id, bbox (x, y, width, height) and score, not rounded, in the order of
            the ground truth's images.

        Raises:
            ValueError: An image was evaluated more than once or not at all.
        """
        parts: list[Any] = [self._detections]
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            parts = [None] * torch.distributed.get_world_size()
            torch.distributed.all_gather_object(parts, self._detections)
        detections = [image for part in parts for image in part]
        counts = Counter(image_id for image_id, _ in detections)
        repeated = [image_id for image_id, count in counts.items() if count > 1]
        if repeated:
            raise ValueError(
                f"detections: expected every image once, got {len(repeated)} images more than once, such as "
                f"{repeated[0]}; give each to one process only, and call reset() before another evaluation"
            )
        missing = [image_id for image_id in self._images if image_id not in counts]
        if missing:
            raise ValueError(
                f"detections: expected all {len(self._images)} images, got none for {len(missing)}, "
                f"such as {missing[0]}; give their detections too, even if there are none, or the ground "
                "truth of the others"
            )
        by_image = dict(detections)
        return [result for image_id in self._images for result in by_image[image_id]]

    def compute(self) -> CocoMetrics:
        """Evaluate the detections of all processes; prints nothing.

        All processes must call it, and all get the same metrics.

        Raises:
            ValueError: An image was evaluated more than once or not at all.
        """
        from pycocotools.cocoeval import COCOeval

        results = [
            {**result, "area": result["bbox"][2] * result["bbox"][3], "iscrowd": 0}
            for result in self.results()
        ]
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation = COCOeval(self._indexed(self._annotations), self._indexed(results), "bbox")
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        stats = [math.nan if value == -1 else float(value) for value in evaluation.stats]
        # (thresholds, recalls, categories by id), for all areas and 100 detections per image.
        precision = evaluation.eval["precision"][:, :, :, 0, -1]
        thresholds = {"AP": slice(None), "AP50": slice(0, 1), "AP75": slice(5, 6)}
        index_of = {category_id: index for index, category_id in enumerate(evaluation.params.catIds)}
        by_class = {
            category["name"]: {
                name: _mean(precision[part, :, index_of[self._category_numbers[category["id"]]]])
                for name, part in thresholds.items()
            }
            for category in self._categories
        }
        return CocoMetrics(dict(zip(_NAMES, stats, strict=True)), by_class)

    def _indexed(self, annotations: list[dict[str, Any]]) -> Any:
        """pycocotools' COCO object, with numbers from 1 as ids: it never matches an annotation with id 0."""
        from pycocotools.coco import COCO

        images, categories = self._image_numbers, self._category_numbers
        listed = [
            {**entry, "image_id": images[entry["image_id"]], "category_id": categories[entry["category_id"]]}
            for entry in annotations
            if entry["image_id"] in images and entry["category_id"] in categories
        ]
        coco = COCO()
        coco.dataset = {
            "images": [{"id": number} for number in images.values()],
            "annotations": [{**entry, "id": number} for number, entry in enumerate(listed, 1)],
            "categories": [{"id": number} for number in categories.values()],
        }
        coco.createIndex()
        return coco


def _numbers(ids: Sequence[Id]) -> dict[Id, int]:
    """Numbers from 1 in the order of the ids; strings come after numbers."""
    ordered = sorted(ids, key=lambda value: (isinstance(value, str), value))
    return {value: number for number, value in enumerate(ordered, 1)}


def _mean(precision: npt.NDArray[np.float64]) -> float:
    """The mean over the defined values; pycocotools marks the others with -1."""
    defined = precision[precision > -1]
    return float(defined.mean()) if defined.size else math.nan
