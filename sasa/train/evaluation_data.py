"""Which data an evaluation takes: those that it is given, or else those that the weights were trained on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sasa.data.dataset_factory import is_path


class EvaluationData(NamedTuple):
    """Data to open."""

    source: str | Path
    split: str | None
    options: dict[str, Any]

    @property
    def described(self) -> dict[str, Any]:
        """For the results."""
        return {"data": str(self.source), "split": self.split, "data_options": self.options}


def evaluation_data(
    recipe: Mapping[str, Any] | None,
    source: str | Path | None,
    split: str | None,
    options: dict[str, Any],
    *,
    built_in: str,
    otherwise: str = "say what to evaluate them on (--data)",
) -> EvaluationData:
    """Choose the data.

    Args:
        recipe: the weights', as in config.yaml; None if they have none.
        source: of the data; None means the recipe's, or the built-in ones where there is no recipe.
        split: of the data. Of the recipe's, "train", "validation" and "test" are what it names so.
        options: of the data; of the recipe's they override its own.
        built_in: the source that needs no files.
        otherwise: what to do where the recipe's data are not here, for the error.

    Raises:
        FileNotFoundError: the recipe's data are not here. Names of timm's are not followed: they may fetch
            and run what the author of a weights file wants.
    """
    if source is not None or recipe is None:
        return EvaluationData(built_in if source is None else source, split, options)
    data = recipe["data"]
    here = is_path(data["source"]) and Path(data["source"]).expanduser().exists()
    if data["source"] != built_in and not here:
        raise FileNotFoundError(
            f"source: the weights were trained on {data['source']!r}, which is no file or folder here; "
            f"{otherwise}"
        )
    key = {"validation": "val_split"}.get(str(split), f"{split}_split")
    own = data.get(key) or split
    return EvaluationData(data["source"], own, {**data["options"], **options})
