"""Boxes drawn on images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sasa.report.matplotlib_figure import new_figure

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from matplotlib.axes import Axes

# The colors of Okabe and Ito, which color-blind readers can distinguish; each class has one.
_COLORS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7")
_DPI = 150
# Longer side in pixels, for readable captions: smaller images than the first are enlarged to it; for larger
# images than the second, lines and captions grow.
_SMALL, _LARGE = 640, 1280


@dataclass(frozen=True)
class DrawnBoxes:
    """Boxes of one image.

    Attributes:
        boxes: Each as x1, y1, x2, y2 in pixels.
        labels: Class of each box, which determines its color.
        names: Name of the class of each box.
        scores: Score of each box, shown after its name; None for annotated boxes.
    """

    boxes: Sequence[Sequence[float]]
    labels: Sequence[int]
    names: Sequence[str]
    scores: Sequence[float] | None = None


def draw_boxes(image: npt.NDArray[np.uint8], boxes: DrawnBoxes, out: str | Path) -> Path:
    """Draw boxes on an image.

    If its longer side has less than 640 pixels, the image is enlarged to that; if it has more than 1280,
    lines and captions grow.

    Args:
        image: The image (H, W, 3).
        boxes: The boxes.
        out: The picture file; its suffix is the format.

    Returns:
        The picture file.

    Raises:
        ImportError: matplotlib is not installed.
    """
    height, width = image.shape[:2]
    side = max(height, width)
    inches = min(max(side, _SMALL), _LARGE) / _DPI
    figure = new_figure(width * inches / side, height * inches / side)
    figure.set_layout_engine("none")
    _panel(figure.add_axes((0, 0, 1, 1)), image, boxes, font_size=7)
    out = Path(out)
    figure.savefig(out, dpi=max(side, _SMALL) / inches)
    return out


def draw_box_rows(
    images: Sequence[npt.NDArray[np.uint8]], rows: Mapping[str, Sequence[DrawnBoxes]], out: str | Path
) -> Path:
    """Draw images side by side, with one row per set of boxes, such as annotated and detected ones.

    Args:
        images: The images, each (H, W, 3).
        rows: The boxes of each image, by the title of the row.
        out: The picture file; its suffix is the format.

    Returns:
        The picture file.

    Raises:
        ImportError: matplotlib is not installed.
    """
    figure = new_figure(2.2 * len(images), 2.4 * len(rows))
    grid = figure.subplots(len(rows), len(images), squeeze=False)
    for line, (title, row) in zip(grid, rows.items(), strict=True):
        for axes, image, boxes in zip(line, images, row, strict=True):
            _panel(axes, image, boxes, font_size=5)
        line[0].set_ylabel(title, fontsize=8)
    out = Path(out)
    figure.savefig(out, dpi=_DPI)
    return out


def _panel(axes: Axes, image: npt.NDArray[np.uint8], boxes: DrawnBoxes, font_size: int) -> None:
    from matplotlib.patches import Rectangle

    height, width = image.shape[:2]
    axes.imshow(image, extent=(0, width, height, 0))
    axes.set(xticks=[], yticks=[])
    scores = [""] * len(boxes.names) if boxes.scores is None else [f" {score:.2f}" for score in boxes.scores]
    for (x1, y1, x2, y2), label, name, score in zip(
        boxes.boxes, boxes.labels, boxes.names, scores, strict=True
    ):
        color = _COLORS[label % len(_COLORS)]
        axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=color, linewidth=1.2))
        background = {"facecolor": color, "edgecolor": "none", "pad": 0.5, "alpha": 0.8}
        axes.text(x1, y1, name + score, fontsize=font_size, va="top", bbox=background, clip_on=True)
