"""A detector's training run from its configuration to its results, and an evaluation of what came out."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch import Trainer, seed_everything

from sasa.data.detection import collate_detection, create_detection_dataset, detection_evaluation_transform
from sasa.detection import RetinaNet, detector_cost
from sasa.models import list_models
from sasa.train.config import RuntimeConfig, options_of
from sasa.train.detection.config import DetectionConfig
from sasa.train.detection.detector import LOGGED, DetectionEvaluator, Detector, compile_parts
from sasa.train.detection.loaders import DetectionData
from sasa.train.detection.weights import create_detector, load_detector
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
from sasa.train.loaders import evaluation_loader
from sasa.train.metrics_table import defined, rounded
from sasa.train.trainer import determinism_restored, evaluation_trainer, quiet
from sasa.train.weights import WEIGHTS_FILE, require_same_classes, save_weights

# Of validation, each with the name it is printed under.
_SCORES = {f"val_{name}": name for name in LOGGED}


def train_detector(config: DetectionConfig) -> dict[str, Any]:
    """Train a detector, evaluate it on the test images and write the run folder.

    The folder, config.folder, then holds what a classifier's run folder does: config.yaml, metrics.csv,
    tensorboard/, checkpoints/ (best.ckpt by AP on the validation images), model.safetensors and results.json.

    Under torchrun every process calls this with the same configuration.

    Returns:
        What results.json holds: COCO's metrics of the test images ("AP", "AP50", …, in [0, 1], None where
        there is nothing to find, and "by_class"), loss and images, validation's last AP, parameters, with one
        of our backbones flops of an image of data.size × data.size, epochs, steps, seconds, versions, and the
        model, data and machine.

    Raises:
        FileExistsError: the folder holds a run already.
        FloatingPointError: the loss is not finite.
        FileNotFoundError, ValueError: the data, the model or the configuration are at fault.
    """
    require_new(config)
    return _run(config, None)


def resume_detector(folder: str | Path) -> dict[str, Any]:
    """Go on with a run that stopped, from its newest readable checkpoint and with its own config.yaml.

    On one process the result is bit for bit that of a run that was never stopped.

    Returns:
        As train_detector does.

    Raises:
        FileNotFoundError: there is no run in the folder.
        FileExistsError: the run is finished.
        ValueError: none of its checkpoints can be read.
    """
    return _run(*stopped_run(Path(folder), DetectionConfig))


@determinism_restored()
def _run(config: DetectionConfig, checkpoint: Path | None) -> dict[str, Any]:
    started = time.perf_counter()
    data = DetectionData(config)
    seed_everything(config.seed, verbose=False)
    with options_of("model"):
        network, metadata = create_detector(config, data.classes, data.size)
    data.augment(network.transform.image_mean)
    price = {"parameters": sum(parameter.numel() for parameter in network.parameters())}
    if metadata.backbone in list_models():  # of others' layers we have no formulas
        price["flops"] = detector_cost(network, (3, data.size, data.size)).flops
    detector = Detector(network, config, data.validation.ground_truth(), steps_per_epoch=data.steps_per_epoch)
    trainer = training_trainer(config, data.steps_per_epoch, _SCORES)
    fitted = fit(trainer, detector, data, config, checkpoint)

    network = metadata.create_model()
    network.load_state_dict(fitted.state)
    scores, _ = _evaluate(trainer, network, data, data.test.ground_truth(), config.runtime)
    results = {
        **scores,
        "val_AP": fitted.rows[-1]["val_AP"],
        "model": {"backbone": metadata.backbone, **metadata.backbone_options},
        "options": metadata.options,
        "data": config.data.source,
        "classes": len(data.classes),
        "training_images": len(data.training),
        "skipped_objects": sum(len(part.skipped) for part in (data.training, data.validation, data.test)),
        **price,
        **circumstances(fitted, trainer, config, started),
    }
    if trainer.is_global_zero:
        metrics = {name: value for name, value in scores.items() if name[:2] in ("AP", "AR")}
        save_weights(config.folder / WEIGHTS_FILE, network, dataclasses.replace(metadata, metrics=metrics))
        write_json(results, config.folder / RESULTS_FILE)
    return results


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
    """Evaluate a trained detector by COCO's rules.

    Args:
        run: a run's folder or its safetensors file.
        source: annotated images, see sasa.data.detection.create_detection_dataset; their classes must be the
            weights'.
            None means those that the detector was trained on, with their options; if the file does not say,
            "scenes".
        split: which of their splits; None takes what there is. With source None "train", "validation" and
            "test" are what the run's configuration names so. Images that it held out of "train" are no split.
        images: the folder of the images of a *.json.
        batch_size: images at a time, in each process.
        num_workers: processes that load images; 0 loads in this one.
        on_invalid: "raise" stops at an object whose box is wrong, "skip" leaves it out.
        results_file: where to write the detections in COCO's results format; None writes none.
        runtime: the machine; None means its defaults.
        scene_options: for the scenes only.

    Returns:
        COCO's metrics ("AP", "AP50", …, in [0, 1], None where there is nothing to find) and "by_class", loss
        (None where it is not finite), images, skipped_objects, run, and what was evaluated: data, split
        and data_options.

    Raises:
        FileNotFoundError, ValueError: the weights or the data are at fault.
    """
    runtime = RuntimeConfig() if runtime is None else runtime
    if batch_size < 1:
        raise ValueError(f"batch_size must be positive, got {batch_size}")
    network, metadata = load_detector(run)
    data = evaluation_data(metadata.recipe, source, split, scene_options, built_in="scenes")
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
    with determinism_restored():
        trainer = evaluation_trainer(runtime)
        loader = evaluation_loader(
            dataset, trainer, batch_size=batch_size, num_workers=num_workers, collate=collate_detection
        )
        if runtime.compile:
            compile_parts(network)
        scores, found = _evaluate(trainer, network, loader, dataset.ground_truth(), runtime)
        if results_file is not None and trainer.is_global_zero:
            write_json(found, Path(results_file))
        return {
            **scores,
            "skipped_objects": len(dataset.skipped),
            "run": str(run),
            **data.described,
        }


def _evaluate(
    trainer: Trainer, network: RetinaNet, data: Any, truth: dict[str, Any], runtime: RuntimeConfig
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Scores, and detections in COCO's results format."""
    evaluator = DetectionEvaluator(network, {"test": truth}, channels_last=runtime.channels_last)
    with quiet(trainer):
        (test,) = trainer.test(evaluator, data, verbose=False)
    metrics = evaluator.metrics["test"]
    scores = {
        **defined(metrics.overall),
        "by_class": {name: defined(values) for name, values in metrics.by_class.items()},
        **defined({"loss": rounded(test["test_loss"])}),
        "images": len(truth["images"]),
    }
    return scores, evaluator.results
