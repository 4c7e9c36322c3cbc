"""Images that a classifier got wrong, on one sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sasa.report.matplotlib_figure import new_figure


def draw_mistakes(images: Sequence[np.ndarray], captions: Sequence[str], path: str | Path) -> None:
    """Draw images in rows of five, each with a caption.

    Args:
        images: (H, W, 3) or (H, W, 1), in [0, 1]; at least one.
        captions: One for each.
        path: The picture file; its suffix is the format.

    Raises:
        ImportError: matplotlib is not installed.
    """
    columns = 5
    rows = math.ceil(len(images) / columns)
    figure = new_figure(1.8 * columns, 2.2 * rows)
    grid = figure.subplots(rows, columns, squeeze=False).flat
    for axes, image, caption in zip(grid, images, captions, strict=False):
        axes.imshow(image, cmap="gray", vmin=0, vmax=1)
        axes.set_title(caption, fontsize=7)
    for axes in figure.axes:
        axes.axis("off")
    figure.savefig(path, dpi=150)
