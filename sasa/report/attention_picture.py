"""Attention maps drawn over images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sasa.errors import require
from sasa.report.matplotlib_figure import new_figure

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


def draw_attention(
    images: npt.NDArray[np.floating],
    maps: Mapping[str, npt.NDArray[np.floating]],
    out: str | Path,
    *,
    query: tuple[float, float],
    captions: Sequence[str] | None = None,
    heads: Sequence[int] | None = None,
) -> Path:
    """Draw one row per image: the image with the query marked, then the attention weights of each layer.

    Each panel has its own scale, from zero to its largest weight. Weights of exactly zero, such as those
    outside of the window, are transparent.

    Args:
        images: Grayscale (B, H, W) or RGB (B, H, W, 3), in [0, 1].
        maps: Attention weights of the query (B, N, h, w) for each layer, on a map of any size.
        out: The picture file; its suffix is the format.
        query: Row and column relative to height and width, in [0, 1]; marked by a cross.
        captions: A caption per image.
        heads: Heads to draw, with one column per layer and head; None draws the mean of all heads.

    Returns:
        The picture file.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: There is no such head.
    """
    columns = []
    for name, layer in maps.items():
        count = layer.shape[1]
        if heads is None:
            columns.append((f"{name}\nmean of {count} heads", layer.mean(1)))
            continue
        for head in heads:
            require(0 <= head < count, "heads", f"0 to {count - 1} for {name}", head)
            columns.append((f"{name}\nhead {head}", layer[:, head]))
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
        for axes, (title, layer) in zip(line[1:], columns, strict=True):
            weights = layer[index]
            alpha = 0.7 * (weights > 0)
            axes.imshow(weights, cmap="viridis", alpha=alpha, extent=extent, vmin=0, vmax=weights.max() or 1)
            axes.plot(col, row, "+", color="#D55E00", markersize=6)
            if index == 0:
                axes.set_title(title, fontsize=7)
    grid[0][0].set_title("image, query +", fontsize=7)
    out = Path(out)
    figure.savefig(out, dpi=150)
    return out
