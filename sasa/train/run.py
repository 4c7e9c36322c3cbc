"""A classifier's training run from its configuration to its results, and an evaluation of what came out."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch import seed_everything

from sasa.data import ImageDataset, create_dataset, evaluation_transform, is_stream
from sasa.train.classifier import Classifier, Evaluator
from sasa.train.config import RuntimeConfig, TrainConfig, options_of
from sasa.train.config_files import plain
from sasa.train.costs import costs
from sasa.train.evaluation_data import evaluation_data
from sasa.train.fit import (
    RESULTS_FILE,
    circumstances,
    fit,
    require_new,
    stopped_run,
    training_trainer,
    write_json,
)
from sasa.train.loaders import ImageData, evaluation_loader
from sasa.train.metrics_table import defined, rounded
from sasa.train.trainer import determinism_restored, evaluation_trainer, quiet
from sasa.train.weights import (
    WEIGHTS_FILE,
    WeightsMetadata,
    load_weights,
    require_same_classes,
    save_weights,
    start_from,
)

# Of validation, each with the name it is printed under.
_SCORES = {"val_top1": "top-1", "val_top5": None}


def train(config: TrainConfig) -> dict[str, Any]:
    """Train a classifier, evaluate it on the test images and write the run folder.

    The folder, config.folder, then holds config.yaml, metrics.csv (a row an epoch), tensorboard/,
    checkpoints/, model.safetensors (the evaluated weights: the moving average where it is on) and
    results.json.

    Under torchrun every process calls this with the same configuration.

    Returns:
        What results.json holds: top1, top5 (from six classes on), loss and images of the test data,
        validation's last top1, costs (see sasa.train.costs), epochs, steps, seconds, the peak memory of the
        process, versions, and the model, data and machine.

    Raises:
        FileExistsError: the folder holds a run already.
        FloatingPointError: the loss is not finite.
        FileNotFoundError, ValueError: the data, the model or the configuration are at fault.
    """
    require_new(config)
    return _run(config, None)


def resume(folder: str | Path) -> dict[str, Any]:
    """Go on with a run that stopped, from its newest readable checkpoint and with its own config.yaml.

    On one process the result is bit for bit that of a run that was never stopped.

    Returns:
        As train does.

    Raises:
        FileNotFoundError: there is no run in the folder.
        FileExistsError: the run is finished.
        ValueError: none of its checkpoints can be read.
    """
    return _run(*stopped_run(Path(folder), TrainConfig))


@determinism_restored()
def _run(config: TrainConfig, checkpoint: Path | None) -> dict[str, Any]:
    started = time.perf_counter()
    data = ImageData(config)
    seed_everything(config.seed, verbose=False)
    metadata = WeightsMetadata(
        model=config.model.name,
        options=config.model.options,
        classes=data.classes,
        input_size=list(data.input_size),
        mean=list(data.mean),
        std=list(data.std),
        crop_pct=config.data.crop_pct,
        interpolation=config.data.interpolation,
        recipe=plain(config),
    )
    with options_of("model"):
        network = metadata.create_model()
    price = costs(network, metadata)
    if config.model.weights is not None:
        start_from(config.model.weights, network, data.classes)
    classifier = Classifier(
        network, config, num_classes=len(data.classes), steps_per_epoch=data.steps_per_epoch
    )
    trainer = training_trainer(config, data.steps_per_epoch, _SCORES)
    parts = trainer.world_size * config.optimizer.grad_accum_steps
    if (config.augmentation.mixup or config.augmentation.cutmix) and config.optimizer.batch_size // parts % 2:
        raise ValueError(
            "optimizer.batch_size must give every process an even number of images at a time for mixup and "
            f"cutmix, got {config.optimizer.batch_size} / {parts}"
        )
    fitted = fit(trainer, classifier, data, config, checkpoint)

    network = metadata.create_model()
    network.load_state_dict(fitted.state)
    evaluator = Evaluator(network, len(data.classes), channels_last=config.runtime.channels_last)
    with quiet(trainer):
        (test,) = trainer.test(evaluator, data, verbose=False)
    results = {
        **_scores(test, "test"),
        "val_top1": fitted.rows[-1]["val_top1"],
        "model": config.model.name,
        "options": config.model.options,
        "data": config.data.source,
        "classes": len(data.classes),
        "training_images": len(data.training),
        "skipped_images": sum(
            part.skipped for part in (data.training, data.test) if isinstance(part, ImageDataset)
        ),
        **price,
        **circumstances(fitted, trainer, config, started),
    }
    if trainer.is_global_zero:
        metadata = dataclasses.replace(metadata, accuracy=results["top1"])
        save_weights(config.folder / WEIGHTS_FILE, network, metadata)
        write_json(results, config.folder / RESULTS_FILE)
    return results


def _scores(test: Any, stage: str) -> dict[str, Any]:
    """Lightning's metrics without the stage's name, images as a whole number."""
    scores = {name.removeprefix(f"{stage}_"): value for name, value in test.items()}
    order = [name for name in ("top1", "top5", "loss") if name in scores]
    return {**defined({name: rounded(scores[name]) for name in order}), "images": int(scores["images"])}


def evaluate(
    run: str | Path,
    source: str | Path | None = None,
    split: str = "test",
    *,
    batch_size: int = 128,
    num_workers: int = 0,
    on_broken: Literal["raise", "skip"] = "raise",
    runtime: RuntimeConfig | None = None,
    **reader_options: Any,
) -> dict[str, Any]:
    """Evaluate trained weights.

    Args:
        run: a run's folder, its safetensors file, or "built-in", the classifier that comes with sasa.
        source: images, see sasa.data.create_dataset; their classes must be those of the weights. None means
            the folder, archive or built-in images that the weights were trained on; if the file does not say,
            "fashion-mnist".
        split: which of their splits; with source None "train", "validation" and "test" are what the run's
            configuration names so. Images that it held out of "train" are no split.
        batch_size: images at a time, in each process.
        num_workers: processes that load images; 0 loads in this one.
        on_broken: "raise" stops at a broken image, "skip" leaves it out.
        runtime: the machine; None means its defaults.
        reader_options: for timm's readers only.

    Returns:
        top1, top5 (from six classes on) in [0, 1], loss (None if it is not finite), images, skipped_images,
        run, and what was evaluated: data, split and data_options.

    Raises:
        FileNotFoundError, ValueError: the weights or the data are at fault.
    """
    runtime = RuntimeConfig() if runtime is None else runtime
    if batch_size < 1:
        raise ValueError(f"batch_size must be positive, got {batch_size}")
    network, metadata = load_weights(run)
    transform = evaluation_transform(
        (metadata.input_size[0], metadata.input_size[1], metadata.input_size[2]),
        mean=metadata.mean,
        std=metadata.std,
        crop_pct=metadata.crop_pct,
        interpolation=metadata.interpolation,
    )
    data = evaluation_data(metadata.recipe, source, split, reader_options, built_in="fashion-mnist")
    stream_options = {"is_training": False, "batch_size": 1} if is_stream(data.source) else {}
    with options_of("data"):
        dataset = create_dataset(
            data.source,
            data.split,
            in_chans=metadata.input_size[0],
            transform=transform,
            on_broken=on_broken,
            **{**stream_options, **data.options},
        )
    require_same_classes(data.source, list(dataset.classes), run, metadata.classes)
    with determinism_restored():
        trainer = evaluation_trainer(runtime)
        loader = evaluation_loader(dataset, trainer, batch_size=batch_size, num_workers=num_workers)
        if runtime.compile:
            network.compile()
        evaluator = Evaluator(network, len(metadata.classes), channels_last=runtime.channels_last)
        with quiet(trainer):
            (test,) = trainer.test(evaluator, loader, verbose=False)
        return {
            **_scores(test, "test"),
            "skipped_images": dataset.skipped if isinstance(dataset, ImageDataset) else 0,
            "run": str(run),
            **data.described,
        }
