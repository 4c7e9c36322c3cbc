"""Evaluation of trained detectors."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from sasa.data.detection import collate_detection, create_detection_dataset, detection_evaluation_transform
from sasa.errors import require
from sasa.train.atomic import write_json
from sasa.train.config import RuntimeConfig, options_of
from sasa.train.console import is_first_process
from sasa.train.detection.metrics import DetectionMetrics
from sasa.train.detection.task import compile_detector
from sasa.train.detection.weights import load_detector
from sasa.train.evaluation_data import evaluation_data
from sasa.train.modules import evaluate_dataset
from sasa.train.weights import require_same_classes


def evaluate_detector(
    run: str | Path,
    source: str | Path | None = None,
    split: str | None = "test",
    *,
    images: str | Path | None = None,
    batch_size: int = 8,
    num_workers: int = 0,
    on_invalid: Literal["raise", "skip"] = "raise",
    results_file: str | Path | None = None,
    runtime: RuntimeConfig | None = None,
    **scene_options: Any,
) -> dict[str, Any]:
    """Evaluate a trained detector with COCO's metrics.

    Args:
        run: A run folder, or its safetensors file.
        source: Annotated images, see sasa.data.detection.create_detection_dataset; their classes must be
            those of the weights. None means the images that the detector was trained on, with their options,
            or "scenes" if that is unknown.
        split: Split of the images; None means all of them. If source is None, "train", "validation" and
            "test" mean the splits with these roles in the run.
        images: The folder of the images of a COCO annotation file (*.json).
        batch_size: Images per batch, in each process.
        num_workers: Loader processes. 0 loads in this process.
        on_invalid: "raise" stops at an object with an invalid box; "skip" leaves it out.
        results_file: Where to write the detections in COCO's results format; None writes no file.
        runtime: Precision and devices; None means the defaults.
        scene_options: Options for the scenes.

    Returns:
        COCO's metrics "AP", "AP50" and so on (in [0, 1], None if undefined), the same "by_class", loss (None
        if it is not finite), images, skipped_objects, run, and what was evaluated: data, split and
        data_options.

    Raises:
        FileNotFoundError: The weights or the data do not exist.
        ValueError: The weights, the data or an argument are invalid.
    """
    runtime = RuntimeConfig() if runtime is None else runtime
    require(batch_size >= 1, "batch_size", "a positive number", batch_size)
    network, metadata = load_detector(run)
    data = evaluation_data(metadata.recipe, source, split, scene_options, default_source="scenes")
    with options_of("data"):
        dataset = create_detection_dataset(
            data.source,
            data.split,
            images=images,
            transform=detection_evaluation_transform(),
            on_invalid=on_invalid,
            **data.options,
        )
    require_same_classes(data.source, dataset.classes, run, metadata.classes)
    if runtime.compile:
        compile_detector(network)
    metrics = DetectionMetrics(dataset.ground_truth())
    scores = evaluate_dataset(
        network,
        metrics,
        dataset,
        runtime,
        batch_size=batch_size,
        num_workers=num_workers,
        collate=collate_detection,
    )
    if results_file is not None:
        detections = metrics.results()
        if is_first_process():
            write_json(detections, Path(results_file))
    return {**scores, "skipped_objects": len(dataset.skipped), "run": str(run), **data.described}
