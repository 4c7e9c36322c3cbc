"""Open any source of annotated images by its name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sasa.data.detection.datasets import DetectionDataset, DetectionTransform
from sasa.data.detection.scenes import SceneImages

_SCENES = "scenes"


def open_detection(
    source: str | Path = _SCENES,
    split: str | None = "train",
    *,
    transform: DetectionTransform | None = None,
    **scene_options: Any,
) -> DetectionDataset:
    """Open annotated images."""
    return DetectionDataset(SceneImages(split, **scene_options), transform=transform)
