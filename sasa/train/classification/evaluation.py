"""Evaluation of trained classifiers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from sasa.data import ImageDataset, create_dataset, is_stream
from sasa.errors import require
from sasa.train.classification.held_out import check_held_out
from sasa.train.classification.metrics import ClassificationMetrics
from sasa.train.classification.weights import load_weights
from sasa.train.config import RuntimeConfig, options_of
from sasa.train.evaluation_data import evaluation_data
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
    metrics = ClassificationMetrics(len(metadata.classes), channels_last=runtime.channels_last)
    return {
        **evaluate_dataset(
            network, metrics, dataset, runtime, batch_size=batch_size, num_workers=num_workers
        ),
        "skipped_images": dataset.skipped if isinstance(dataset, ImageDataset) else 0,
        "run": str(run),
        **data.described,
    }
