"""Predicted probabilities as files."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path


def write_predictions_csv(
    rows: Sequence[tuple[str, Sequence[float]]], classes: Sequence[str], path: str | Path
) -> None:
    """Write a row per image: its name, and a column for the probability of each class.

    Args:
        rows: Name and probabilities of each image.
        classes: The names of the classes.
        path: The file.
    """
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image", *classes])
        writer.writerows([name, *values] for name, values in rows)


def write_predictions_json(
    rows: Sequence[tuple[str, Sequence[float]]], classes: Sequence[str], path: str | Path
) -> None:
    """Write a list of objects with the keys image and probabilities, an object by class.

    Args:
        rows: Name and probabilities of each image.
        classes: The names of the classes.
        path: The file.
    """
    content = [
        {"image": name, "probabilities": dict(zip(classes, values, strict=True))} for name, values in rows
    ]
    Path(path).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
