"""What the attention looks at, drawn over the images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sasa.report.matplotlib_figure import new_figure

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


def draw_attention(
    images: npt.NDArray[np.floating],
    views: Mapping[str, npt.NDArray[np.floating]],
    out: str | Path,
    *,
    query: tuple[float, float],
    captions: Sequence[str] | None = None,
    heads: Sequence[int] | None = None,
) -> Path:
    """Draw one row an image: the image with the query marked, then each layer's weights over it.

    Each panel has a scale of its own, from no weight to its largest. What has exactly none, such as all that
    lies outside of the window, shows the image alone.

    Args:
        images: (B, H, W) gray or (B, H, W, 3) color, in [0, 1].
        views: For each layer (B, N, h, w), the weights of the query over the layer's map of any size.
        out: The picture's file; its ending says the format.
        query: Row and column in [0, 1] of the image's height and width, marked by a cross.
        captions: A line for each image.
        heads: Heads to draw, one column a layer and head; their mean, one column a layer, where None.

    Returns:
        The file written.

    Raises:
        ValueError: A head is not there.
        ImportError: matplotlib is not installed.
    """
    columns = []
    for name, view in views.items():
        if heads is None:
            columns.append((f"{name}\nmean of {view.shape[1]} heads", view.mean(1)))
            continue
        for head in heads:
            if not 0 <= head < view.shape[1]:
                raise ValueError(f"heads: expected 0 to {view.shape[1] - 1} for {name}, got {head}")
            columns.append((f"{name}\nhead {head}", view[:, head]))
    count, (height, width) = len(images), images.shape[1:3]
    side = 1.7
    figure = new_figure(side * (len(columns) + 1), (side + 0.1) * count + 0.4)
    grid = figure.subplots(count, len(columns) + 1, squeeze=False)
    extent = (0, width, height, 0)
    row, col = query[0] * height, query[1] * width
    for index, (image, line) in enumerate(zip(images, grid, strict=True)):
        for axes in line:
            axes.imshow(image, cmap="gray", vmin=0, vmax=1, extent=extent)
            axes.set(xticks=[], yticks=[])
        line[0].plot(col, row, "+", color="#D55E00", markersize=10, markeredgewidth=2)
        line[0].set_ylabel("" if captions is None else captions[index], fontsize=7)
        for axes, (title, view) in zip(line[1:], columns, strict=True):
            weights = view[index]
            alpha = 0.7 * (weights > 0)
            axes.imshow(weights, cmap="viridis", alpha=alpha, extent=extent, vmin=0, vmax=weights.max() or 1)
            axes.plot(col, row, "+", color="#D55E00", markersize=6)
            if index == 0:
                axes.set_title(title, fontsize=7)
    grid[0][0].set_title("image, query +", fontsize=7)
    out = Path(out)
    figure.savefig(out, dpi=150)
    return out
