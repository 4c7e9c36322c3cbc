"""Results as the text that the command line prints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_LOWEST = 10
_COCO_LINES = (("AP", "AP50", "AP75"), ("AP_small", "AP_medium", "AP_large"))


def format_data(results: Mapping[str, Any]) -> str:
    """The evaluated data, in one line.

    Args:
        results: Results of an evaluation, with data, split and data_options.
    """
    options = [f"{key}={value}" for key, value in results["data_options"].items()]
    return ", ".join([f"data: {results['data']}", f"split {results['split']}", *options])


def format_classification(results: Mapping[str, Any]) -> str:
    """Accuracy and loss of a classifier, and its calibration, accuracy by class and cost if known.

    Args:
        results: Results of a training or evaluation.
    """
    top5 = f", top-5 {results['top5']:.2%}" if "top5" in results else ""
    lines = [f"top-1 {results['top1']:.2%}{top5}, loss {_loss(results)} on {results['images']} images"]
    if "by_class" in results:
        lines.append(f"calibration error {results['calibration_error']:.2%}")
        by_class = sorted(results["by_class"].items(), key=lambda item: _or_one(item[1]["accuracy"]))
        shown = by_class[:_LOWEST]
        complete = len(shown) == len(by_class)
        lines.append("accuracy by class:" if complete else f"the {_LOWEST} lowest classes:")
        width = max(len(name) for name, _ in shown)
        lines += [f"  {name:<{width}}  {_percent(of['accuracy'])} of {of['images']}" for name, of in shown]
    if "baseline_flops" in results:
        lines += [
            f"this network:               {_cost(results['parameters'], results['flops'])}",
            f"its convolutional baseline: {_cost(results['baseline_parameters'], results['baseline_flops'])}",
        ]
    return "\n".join(lines)


def format_detection(results: Mapping[str, Any]) -> str:
    """COCO's metrics of a detector, in total and by class, and cost if known.

    Args:
        results: Results of a training or evaluation.
    """

    def metrics(values: Mapping[str, float | None], names: tuple[str, ...]) -> str:
        return ", ".join(f"{name.replace('_', ' ')} {_percent(values[name])}" for name in names)

    lines = [f"{results['images']} images, loss {_loss(results)}"]
    lines += [metrics(results, names) for names in _COCO_LINES]
    width = max(map(len, results["by_class"]))
    lines += [f"  {name:<{width}}  {metrics(of, _COCO_LINES[0])}" for name, of in results["by_class"].items()]
    if "flops" in results:
        lines.append(f"this detector: {_cost(results['parameters'], results['flops'])}")
    return "\n".join(lines)


def format_comparison(comparison: Mapping[str, Any]) -> str:
    """Two runs or recipes side by side, with ratios, and the configuration keys that differ.

    Speed and memory have a ratio only if both were trained on the same device with the same threads and
    processes.

    Args:
        comparison: A sasa.train.ablation.comparison.Comparison as a dict.
    """
    a, b = comparison["first"], comparison["second"]
    lines = [f"A: {a['name']}, {a['model']}", f"B: {b['name']}, {b['model']}", ""]
    lines.append(f"{'':34}{'A':>12}{'B':>12}{'B / A':>9}")
    same_machine = a["trained_on"] == b["trained_on"]
    for label, key, factor, form, comparable in (
        ("test top-1, %", "top1", 100, ".2f", True),
        ("test loss", "loss", 1, ".4f", True),
        ("parameters, M", "parameters", 1e-6, ".3f", True),
        ("FLOPs per image, M", "flops", 1e-6, ".1f", True),
        ("inference per image, ms", "inference_seconds", 1e3, ".3f", True),
        ("training, images/s", "training_images_per_second", 1, ".0f", same_machine),
        ("peak memory of training, MB", "peak_memory_bytes", 1e-6, ".0f", same_machine),
    ):
        values = [a[key], b[key]]
        cells = ["–" if value is None else f"{factor * value:{form}}" for value in values]
        ratio = f"{values[1] / values[0]:.3f}" if comparable and None not in values and values[0] else "–"
        lines.append(f"{label:34}{cells[0]:>12}{cells[1]:>12}{ratio:>9}")
    for name, trained_on in (("A", a["trained_on"]), ("B", b["trained_on"])):
        if trained_on is not None:
            note = ", memory of the whole process" if "cpu" in trained_on else ""
            lines.append(f"{name} was trained on {trained_on}{note}")
    if comparison["differences"]:
        lines += ["", "configuration keys that differ:"]
    lines += [f"  {key}: {first} | {second}" for key, (first, second) in comparison["differences"].items()]
    return "\n".join(lines)


def format_flops(flops: int) -> str:
    """A number of FLOPs, in millions or billions."""
    return f"{flops / 1e9:.2f} B" if flops >= 1e9 else f"{flops / 1e6:.1f} M"


def _cost(parameters: int, flops: int) -> str:
    return f"{parameters / 1e6:.2f} M parameters, {format_flops(flops)} FLOPs"


def _loss(results: Mapping[str, Any]) -> str:
    return "not finite" if results["loss"] is None else f"{results['loss']:.4f}"


def _or_one(value: float | None) -> float:
    return 1.0 if value is None else value


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.2%}"
