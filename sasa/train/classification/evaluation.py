"""Evaluation of trained classifiers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from sasa.data import ImageDataset, create_dataset, is_stream
from sasa.errors import require
from sasa.train.classification.detailed_metrics import DetailedMetrics
from sasa.train.classification.held_out import check_held_out
from sasa.train.classification.metrics import ClassificationMetrics
from sasa.train.classification.weights import WeightsMetadata, load_weights
from sasa.train.config import RuntimeConfig, options_of
from sasa.train.evaluation_data import evaluation_data
from sasa.train.metrics_table import rounded
from sasa.train.modules import evaluate_dataset
from sasa.train.weights import require_same_classes


def evaluate(
    run: str | Path,
    source: str | Path | None = None,
    split: str = "test",
    *,
    batch_size: int = 128,
    num_workers: int = 0,
    on_broken: Literal["raise", "skip"] = "raise",
    runtime: RuntimeConfig | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Evaluate a trained classifier.

    Args:
        run: A run folder, its safetensors file, or "built-in", the classifier that comes with sasa.
        source: Images, see sasa.data.create_dataset; their classes must be those of the weights. None means
            the folder, archive or built-in images that the weights were trained on, or "fashion-mnist" if
            that is unknown.
        split: Split of the images. If source is None, "train", "validation" and "test" mean the splits with
            these roles in the run. Images held out of "train" are not a split.
        batch_size: Images per batch, in each process.
        num_workers: Loader processes. 0 loads in this process.
        on_broken: "raise" stops at a broken image; "skip" leaves it out.
        runtime: Precision and devices; None means the defaults.
        options: Further options of `sasa.data.create_dataset`, such as test_fraction or those of timm's
            readers.

    Returns:
        top1, top5 if there are more than five classes (both in [0, 1]), loss (None if it is not finite),
        images, skipped_images, run, and what was evaluated: data, split and data_options.

    Raises:
        FileNotFoundError: The weights or the data do not exist.
        ValueError: The weights, the data or an argument are invalid.
    """
    return _evaluate(run, source, split, None, batch_size, num_workers, on_broken, runtime, options)[0]


@dataclass(frozen=True)
class EvaluationDetails:
    """What `evaluate_details` returns.

    Attributes:
        results: As `evaluate` returns, and calibration_error, the expected calibration error in 15 bins, in
            [0, 1], and by_class: for each class its accuracy in [0, 1], or None, and its number of images.
        classes: The names of the classes.
        confusion: Numbers of images (classes, classes), int64: those of each class by the class that was
            predicted.
        mistakes: The images that were classified wrongly with the highest probability, that first.
    """

    results: dict[str, Any]
    classes: list[str]
    confusion: Tensor
    mistakes: list[Mistake]


@dataclass(frozen=True)
class Mistake:
    """An image that was classified wrongly.

    Attributes:
        image: (H, W, C), float32 in [0, 1], as the network sees it.
        label: The name of its class.
        predicted: The name of the class that was predicted.
        confidence: The probability of that class, in [0, 1].
    """

    image: Tensor
    label: str
    predicted: str
    confidence: float


def evaluate_details(
    run: str | Path,
    source: str | Path | None = None,
    split: str = "test",
    *,
    mistakes: int = 25,
    batch_size: int = 128,
    num_workers: int = 0,
    on_broken: Literal["raise", "skip"] = "raise",
    runtime: RuntimeConfig | None = None,
    **options: Any,
) -> EvaluationDetails:
    """Evaluate a trained classifier by class, with its calibration and its most confident mistakes.

    Args and errors as in `evaluate`; mistakes is how many of them are returned, at least 1.
    """
    require(mistakes >= 1, "mistakes", "at least 1", mistakes)
    results, metrics, metadata = _evaluate(
        run, source, split, mistakes, batch_size, num_workers, on_broken, runtime, options
    )
    assert isinstance(metrics, DetailedMetrics)
    confusion = metrics.confusion.compute().cpu()
    totals, right = confusion.sum(1).tolist(), confusion.diagonal().tolist()
    results |= {
        "calibration_error": rounded(float(metrics.calibration.compute())),
        "by_class": {
            name: {"accuracy": rounded(correct / total) if total else None, "images": total}
            for name, correct, total in zip(metadata.classes, right, totals, strict=True)
        },
    }
    mean, std = (torch.tensor(values)[:, None, None] for values in (metadata.mean, metadata.std))
    found = [
        Mistake(
            (image.float().cpu() * std + mean).clamp(0, 1).movedim(0, -1),
            metadata.classes[label],
            metadata.classes[predicted],
            float(confidence),
        )
        for image, label, predicted, confidence in zip(*metrics.mistakes.compute(), strict=True)
    ]
    return EvaluationDetails(results, metadata.classes, confusion, found)


def _evaluate(
    run: str | Path,
    source: str | Path | None,
    split: str,
    mistakes: int | None,
    batch_size: int,
    num_workers: int,
    on_broken: Literal["raise", "skip"],
    runtime: RuntimeConfig | None,
    options: dict[str, Any],
) -> tuple[dict[str, Any], ClassificationMetrics, WeightsMetadata]:
    """The results of `evaluate`, and the metrics, which are detailed unless mistakes is None."""
    runtime = RuntimeConfig() if runtime is None else runtime
    require(batch_size >= 1, "batch_size", "a positive number", batch_size)
    network, metadata = load_weights(run)
    data = evaluation_data(metadata.recipe, source, split, options, default_source="fashion-mnist")
    stream_options = {"is_training": False, "batch_size": 1} if is_stream(data.source) else {}
    with options_of("data"):
        dataset = create_dataset(
            data.source,
            data.split,
            in_chans=metadata.input_size[0],
            transform=metadata.create_transform(),
            on_broken=on_broken,
            **{**stream_options, **data.options},
        )
    if source is None:
        check_held_out(metadata, data, dataset)
    require_same_classes(data.source, list(dataset.classes), run, metadata.classes)
    if runtime.compile:
        network.compile()
    kind = ClassificationMetrics if mistakes is None else partial(DetailedMetrics, mistakes=mistakes)
    metrics = kind(len(metadata.classes), channels_last=runtime.channels_last)
    results = {
        **evaluate_dataset(
            network, metrics, dataset, runtime, batch_size=batch_size, num_workers=num_workers
        ),
        "skipped_images": dataset.skipped if isinstance(dataset, ImageDataset) else 0,
        "run": str(run),
        **data.described,
    }
    return results, metrics, metadata
