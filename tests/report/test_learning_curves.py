"""The learning curves of a run folder."""

from pathlib import Path

import pytest
from PIL import Image

from sasa.report import draw_learning_curves


def write_metrics(run: Path, losses: list[float]) -> None:
    rows = [f"{i + 1},{loss},{loss + 0.1},{1 - loss / 4}" for i, loss in enumerate(losses)]
    (run / "metrics.csv").write_text("\n".join(["epoch,train_loss,val_loss,val_top1", *rows]) + "\n")


def test_draws_into_the_run_folder(tmp_path: Path) -> None:
    write_metrics(tmp_path, [2.0, 1.0, 0.5])
    out = draw_learning_curves(tmp_path)
    assert out == tmp_path / "curves.png"
    colors = Image.open(out).convert("RGB").getcolors(1 << 24) or []
    drawn = {color for _, color in colors}
    assert (0, 114, 178) in drawn  # training
    assert (213, 94, 0) in drawn  # validation


def test_other_metrics_give_another_picture(tmp_path: Path) -> None:
    write_metrics(tmp_path, [2.0, 1.0])
    one = draw_learning_curves(tmp_path, tmp_path / "one.png").read_bytes()
    write_metrics(tmp_path, [2.0, 1.9])
    assert draw_learning_curves(tmp_path, tmp_path / "two.png").read_bytes() != one


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"metrics\.csv"):
        draw_learning_curves(tmp_path)
