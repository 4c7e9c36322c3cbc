"""Attention maps that follow from the relative embeddings alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sasa.report.matplotlib_figure import new_figure

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


def draw_position_attention(maps: Mapping[str, npt.NDArray[np.floating]], out: str | Path) -> Path:
    """Draw the k × k window with one row per layer and one column per head; a cross marks the query.

    Args:
        maps: Attention weights (N, kh, kw) for each layer. Every head has its own scale.
        out: The picture file; its suffix is the format.

    Returns:
        The picture file.

    Raises:
        ImportError: matplotlib is not installed.
    """
    heads = max(len(layer) for layer in maps.values())
    figure = new_figure(max(4.0, 1.0 * heads + 1), 1.15 * len(maps) + 0.3)
    grid = figure.subplots(len(maps), heads, squeeze=False)
    for line, (name, layer) in zip(grid, maps.items(), strict=True):
        for axes in line:
            axes.set_axis_off()
        for head, (axes, window) in enumerate(zip(line, layer, strict=False)):
            axes.set_axis_on()
            axes.set(xticks=[], yticks=[])
            axes.imshow(window, cmap="viridis", vmin=0)
            height, width = window.shape
            axes.plot(width // 2, height // 2, "+", color="#D55E00", markersize=6)
            axes.set_title(f"head {head}", fontsize=7)
        line[0].set_ylabel(name, fontsize=7)
    figure.savefig(out, dpi=150)
    return Path(out)
