"""The confusion matrix of a classifier and its accuracy by class, as tables and as a picture."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sasa.report.matplotlib_figure import new_figure

# Numbers are readable in the cells up to this many classes.
_MOST_CLASSES_WITH_NUMBERS = 20


def write_confusion(confusion: np.ndarray, classes: Sequence[str], path: str | Path) -> None:
    """Write a confusion matrix as CSV: a row for each class, a column for each prediction.

    Args:
        confusion: Numbers of images (classes, classes), by class and predicted class.
        classes: The names of the classes.
        path: The file.
    """
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["class", *classes])
        writer.writerows([name, *row] for name, row in zip(classes, confusion.tolist(), strict=True))


def write_accuracy_by_class(by_class: Mapping[str, Mapping[str, Any]], path: str | Path) -> None:
    """Write the accuracy by class as CSV; it is empty for a class without images.

    Args:
        by_class: For each class its accuracy in [0, 1], or None, and its number of images.
        path: The file.
    """
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["class", "accuracy", "images"])
        writer.writerows([name, of["accuracy"], of["images"]] for name, of in by_class.items())


def draw_confusion(confusion: np.ndarray, classes: Sequence[str], path: str | Path) -> None:
    """Draw a confusion matrix: the share of each class that was predicted as each class.

    Args:
        confusion: Numbers of images (classes, classes), by class and predicted class.
        classes: The names of the classes.
        path: The picture file; its suffix is the format.

    Raises:
        ImportError: matplotlib is not installed.
    """
    count = len(classes)
    share = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    side = min(20.0, 2.5 + 0.4 * count)
    figure = new_figure(side + 1, side)
    axes = figure.subplots()
    image = axes.imshow(100 * share, cmap="cividis", vmin=0, vmax=100)
    figure.colorbar(image, label="share of the class, %", shrink=0.8)
    axes.set(xlabel="predicted", ylabel="class")
    if count <= 100:
        axes.set_xticks(range(count), classes, rotation=90, fontsize=7)
        axes.set_yticks(range(count), classes, fontsize=7)
    if count <= _MOST_CLASSES_WITH_NUMBERS:
        for row in range(count):
            for column in range(count):
                color = "black" if share[row, column] > 0.5 else "white"
                text = str(int(confusion[row, column]))
                axes.text(column, row, text, ha="center", va="center", fontsize=6, color=color)
    figure.savefig(path, dpi=150, bbox_inches="tight")
