"""COCO's evaluation of detections, by pycocotools."""

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

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_logger = logging.getLogger(__name__)

# The order of pycocotools' COCOeval.stats.
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
    """COCO's metrics, in [0, 1]; nan where there is no ground truth to find.

    Attributes:
        overall: "AP" (averaged over the IoU thresholds 0.5, 0.55 … 0.95 and the classes), "AP50", "AP75",
            "AP_small", "AP_medium", "AP_large" (areas up to 32², 96² and above), and average recalls: "AR_1",
            "AR_10", "AR_100" (with so many detections an image), "AR_small", "AR_medium", "AR_large".
        by_class: class name → "AP", "AP50", "AP75" of this class.
    """

    overall: dict[str, float]
    by_class: dict[str, dict[str, float]]


class CocoEvaluation:
    """Gathers detections over batches and processes and evaluates them against COCO annotations.

    Every image of the ground truth must be evaluated, and once: for a part of the images, give the ground
    truth of that part (DetectionDataset.select).
    """

    def __init__(self, ground_truth: Mapping[str, Any]) -> None:
        """Take the annotations.

        Args:
            ground_truth: as a COCO annotation file holds them (DetectionDataset.ground_truth): lists "images"
                (id), "annotations" (image_id, category_id, bbox, area, iscrowd) and "categories" (id, name).
                Label l of a detection is the category at place l. Annotations are numbered anew, since
                pycocotools never counts one with the id 0 as found.

        Raises:
            ImportError: pycocotools is not installed.
            ValueError: an image or category comes twice.
        """
        try:
            import pycocotools.cocoeval  # noqa: F401
        except ImportError as error:
            raise ImportError(
                'COCO evaluation needs pycocotools: pip install ".[detect]" in a clone of sasa'
            ) from error
        self._images: list[int] = [image["id"] for image in ground_truth["images"]]
        self._categories = list(ground_truth["categories"])
        self._annotations = [
            {**annotation, "id": number} for number, annotation in enumerate(ground_truth["annotations"], 1)
        ]
        for what, values in (
            ("image ids", self._images),
            ("category ids", [category["id"] for category in self._categories]),
            ("category names", [category["name"] for category in self._categories]),
        ):
            again = [value for value, count in Counter(values).items() if count > 1]
            if again:
                raise ValueError(f"ground_truth: {what} must differ, but {again[0]!r} comes more than once")
        self._known = set(self._images)
        # For each image seen in this process: its detections in COCO's results format.
        self._found: list[tuple[int, list[dict[str, Any]]]] = []

    def reset(self) -> None:
        """Forget all detections."""
        self._found = []

    def update(self, detections: Sequence[Mapping[str, Tensor]], image_ids: Sequence[int]) -> None:
        """Add the detections of some images.

        Detections with a box or score that is not finite are left out, with a warning in the log.

        Args:
            detections: torchvision's output, for each image a dict of boxes (N, 4), x1 y1 x2 y2 in pixels of
                the image as annotated, scores (N,) and labels (N,), 0 ≤ label < C; N may be 0.
            image_ids: the images' ids.

        Raises:
            ValueError: the lengths differ, an id is unknown, or a label is out of range.
        """
        if len(detections) != len(image_ids):
            raise ValueError(
                f"image_ids must name an image for each of {len(detections)} detections, got {len(image_ids)}"
            )
        for found, image_id in zip(detections, image_ids, strict=True):
            if image_id not in self._known:
                raise ValueError(f"image_ids: the ground truth has no image {image_id!r}")
            self._found.append((image_id, self._as_results(found, image_id)))

    def _as_results(self, found: Mapping[str, Tensor], image_id: int) -> list[dict[str, Any]]:
        boxes, scores, labels = (found[key].detach().cpu() for key in ("boxes", "scores", "labels"))
        if boxes.shape != (len(labels), 4) or scores.shape != labels.shape or labels.ndim != 1:
            raise ValueError(
                "detections must have boxes (N, 4), scores (N,) and labels (N,), got "
                f"{tuple(boxes.shape)}, {tuple(scores.shape)} and {tuple(labels.shape)} for image {image_id}"
            )
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(self._categories):
            raise ValueError(
                f"labels must be 0 … {len(self._categories) - 1} for {len(self._categories)} categories, got "
                f"{int(labels.min())} … {int(labels.max())} for image {image_id}"
            )
        finite = boxes.isfinite().all(1) & scores.isfinite()
        if not finite.all():
            _logger.warning(
                "image %s: left out %d of %d detections, which are not finite",
                image_id,
                int((~finite).sum()),
                len(finite),
            )
        corners = boxes[finite].to(torch.float64)
        corners[:, 2:] -= corners[:, :2]
        return [
            {
                "image_id": image_id,
                "category_id": self._categories[label]["id"],
                "bbox": box,
                "score": score,
            }
            for box, score, label in zip(
                corners.tolist(), scores[finite].tolist(), labels[finite].tolist(), strict=True
            )
        ]

    def results(self) -> list[dict[str, Any]]:
        """The detections of all processes in COCO's results format, ready for json.dump.

        With several processes all of them must call it.

        Returns:
            Dicts of image_id, category_id, bbox (x, y, width, height) and score, unrounded, in the order of
            the ground truth's images.

        Raises:
            ValueError: an image was evaluated more than once or not at all.
        """
        parts: list[Any] = [self._found]
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            parts = [None] * torch.distributed.get_world_size()
            torch.distributed.all_gather_object(parts, self._found)
        found = [image for part in parts for image in part]
        counts = Counter(image_id for image_id, _ in found)
        twice = [image_id for image_id, count in counts.items() if count > 1]
        if twice:
            raise ValueError(
                f"{len(twice)} images were evaluated more than once, such as {twice[0]}: give each to one "
                "process only, and call reset() before evaluating anew"
            )
        missing = [image_id for image_id in self._images if image_id not in counts]
        if missing:
            raise ValueError(
                f"{len(missing)} of {len(self._images)} images were not evaluated, such as {missing[0]}: "
                "give their detections too, even if there are none, or the ground truth of the others alone"
            )
        by_image = dict(found)
        return [result for image_id in self._images for result in by_image[image_id]]

    def compute(self) -> CocoMetrics:
        """Evaluate the detections of all processes; prints nothing.

        With several processes all of them must call it, and all get the same.

        Raises:
            ValueError: an image was evaluated more than once or not at all.
        """
        from pycocotools.cocoeval import COCOeval

        results = [
            {**result, "id": number, "area": result["bbox"][2] * result["bbox"][3], "iscrowd": 0}
            for number, result in enumerate(self.results(), 1)
        ]
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation = COCOeval(self._indexed(self._annotations), self._indexed(results), "bbox")
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        stats = [math.nan if value == -1 else float(value) for value in evaluation.stats]
        # (thresholds, recalls, categories by id) of all areas and 100 detections.
        precision = evaluation.eval["precision"][:, :, :, 0, -1]
        at = {"AP": slice(None), "AP50": slice(0, 1), "AP75": slice(5, 6)}
        places = {number: place for place, number in enumerate(evaluation.params.catIds)}
        by_class = {
            category["name"]: {
                name: _mean(precision[part, :, places[category["id"]]]) for name, part in at.items()
            }
            for category in self._categories
        }
        return CocoMetrics(dict(zip(_NAMES, stats, strict=True)), by_class)

    def _indexed(self, annotations: list[dict[str, Any]]) -> Any:
        """pycocotools' COCO object."""
        from pycocotools.coco import COCO

        coco = COCO()
        coco.dataset = {
            "images": [{"id": image_id} for image_id in self._images],
            "annotations": annotations,
            "categories": self._categories,
        }
        coco.createIndex()
        return coco


def _mean(precision: npt.NDArray[np.float64]) -> float:
    """The mean over what is defined; pycocotools marks the rest with -1."""
    defined = precision[precision > -1]
    return float(defined.mean()) if defined.size else math.nan
