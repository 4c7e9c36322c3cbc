"""The windows of relative attention."""

from pathlib import Path

import numpy as np
from PIL import Image

from sasa.report.position_attention_picture import draw_position_attention


def yellow_row(path: Path) -> float:
    """The mean row of the pixels of viridis's top color."""
    p = np.asarray(Image.open(path).convert("RGB")).astype(int)
    return float(np.flatnonzero(((p[..., 0] > 230) & (p[..., 1] > 200) & (p[..., 2] < 80)).any(1)).mean())


def test_the_weights_are_where_they_belong(tmp_path: Path) -> None:
    window = np.zeros((1, 5, 5))
    window[0, 0, 2] = 1
    top = yellow_row(draw_position_attention({"layer1.0.spatial": window}, tmp_path / "top.png"))
    bottom = yellow_row(
        draw_position_attention({"layer1.0.spatial": window[:, ::-1]}, tmp_path / "bottom.png")
    )
    assert top < bottom


def test_a_row_for_each_layer_and_a_column_for_each_head(tmp_path: Path) -> None:
    window = np.ones((8, 3, 3)) / 9
    sizes = []
    for maps in ({"a": window}, {"a": window, "b": window[:4]}):
        with Image.open(draw_position_attention(maps, tmp_path / "maps.png")) as picture:
            sizes.append(picture.size)
    assert sizes[0][0] == sizes[1][0]
    assert sizes[1][1] > 1.7 * sizes[0][1]
