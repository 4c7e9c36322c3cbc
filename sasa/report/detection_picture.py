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

# Okabe and Ito's colors, which color-blind readers tell apart too; a class has one of them.
_COLORS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7")
_DPI = 150
# Pixels of the longer side, for captions that can be read: images below the first are enlarged to it, with
# those above the second lines and captions grow.
_SMALL, _LARGE = 640, 1280


@dataclass(frozen=True)
class DrawnBoxes:
    """Boxes of one image.

    Attributes:
        boxes: each as x1, y1, x2, y2 in pixels.
        labels: the class of each, a number that chooses its color.
        captions: a few words on each.
    """

    boxes: Sequence[Sequence[float]]
    labels: Sequence[int]
    captions: Sequence[str]


def draw_boxes(image: npt.NDArray[np.uint8], boxes: DrawnBoxes, out: str | Path) -> Path:
    """Draw boxes on one image; a longer side of less than 640 pixels is enlarged to that.

    With one of more than 1280 pixels lines and captions grow.

    Args:
        image: (H, W, 3).
        boxes: what to draw.
        out: the picture's file; its ending says the format.

    Returns:
        The file written.

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
    """Draw images side by side, one row for each set of boxes, such as annotated and detected ones.

    Args:
        images: each (H, W, 3).
        rows: title → the boxes of each image.
        out: the picture's file; its ending says the format.

    Returns:
        The file written.

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
    for (x1, y1, x2, y2), label, caption in zip(boxes.boxes, boxes.labels, boxes.captions, strict=True):
        color = _COLORS[label % len(_COLORS)]
        axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=color, linewidth=1.2))
        background = {"facecolor": color, "edgecolor": "none", "pad": 0.5, "alpha": 0.8}
        axes.text(x1, y1, caption, fontsize=font_size, va="top", bbox=background, clip_on=True)
