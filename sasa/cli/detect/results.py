"""How training, evaluation and prediction of detectors show what came out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sasa.cli.results import first_process

if TYPE_CHECKING:
    from sasa.report import DrawnBoxes
    from sasa.train import LabeledBoxes

_LINES = (("AP", "AP50", "AP75"), ("AP_small", "AP_medium", "AP_large"))


def show(results: dict[str, Any]) -> None:
    """Print COCO's metrics, by class too, and the cost; of several processes the first does."""
    if not first_process():
        return
    loss = "not finite" if results["loss"] is None else f"{results['loss']:.4f}"
    print(f"{results['images']} images, loss {loss}")
    for line in _LINES:
        print(", ".join(f"{name.replace('_', ' ')} {_percent(results[name])}" for name in line))
    width = max(map(len, results["by_class"]))
    for name, metrics in results["by_class"].items():
        print(f"  {name:<{width}}  " + ", ".join(f"{key} {_percent(metrics[key])}" for key in _LINES[0]))
    if "flops" in results:
        from sasa.models import Cost

        print(f"this detector: {Cost(results['parameters'], results['flops'])}")


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.2%}"


def drawn(found: LabeledBoxes, *, scores: bool) -> DrawnBoxes:
    """What to draw of what was found."""
    from sasa.report import DrawnBoxes

    captions = [
        f"{name} {score:.2f}" if scores else name
        for name, score in zip(found.names, found.scores, strict=True)
    ]
    return DrawnBoxes(found.boxes, found.labels, captions)
