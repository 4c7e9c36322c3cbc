"""The data of an evaluation: the given ones, or those that the weights were trained on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sasa.data.dataset_factory import is_path
from sasa.errors import require


class EvaluationData(NamedTuple):
    """Data to open.

    Attributes:
        source: Where the data are, see sasa.data.create_dataset.
        split: Split of the data; None means the data as a whole.
        options: Options of the data.
    """

    source: str | Path
    split: str | None
    options: dict[str, Any]

    @property
    def described(self) -> dict[str, Any]:
        """The data as the results of an evaluation hold them."""
        return {"data": str(self.source), "split": self.split, "data_options": self.options}


def evaluation_data(
    recipe: Mapping[str, Any] | None,
    source: str | Path | None,
    split: str | None,
    options: dict[str, Any],
    *,
    default_source: str,
    advice: str = "give the data to evaluate on (--data)",
) -> EvaluationData:
    """Choose the data.

    Args:
        recipe: The configuration of the weights, as in config.yaml; None if they have none.
        source: The data to take; None means those of the recipe, or default_source if there is no recipe.
        split: Split of the data. For those of the recipe, "train", "validation" and "test" mean the splits
            with these roles there.
        options: Options of the data; they override those of the recipe.
        default_source: The built-in data.
        advice: What to do if the data of the recipe do not exist, for the error message.

    Raises:
        FileNotFoundError: The data of the recipe do not exist. Names of timm are not followed: they could
            fetch data, and run code, chosen by the author of a weights file.
    """
    if source is not None or recipe is None:
        return EvaluationData(default_source if source is None else source, split, options)
    data = _data_of(recipe)
    path = Path(data["source"]).expanduser()
    exists = is_path(data["source"]) and (path.is_dir() or path.is_file())
    if data["source"] != default_source and not exists:
        raise FileNotFoundError(
            f"source: expected the data that the weights were trained on, got {data['source']!r}, which is "
            f"no existing file or folder; {advice}"
        )
    roles = {"train": "train_split", "validation": "val_split", "test": "test_split"}
    own = data[roles[split]] if split in roles else None
    held_out = data.get("test_fraction") is not None
    keys = ("test_fraction", "split_seed") if held_out else ()
    own_options = {**data["options"], **{key: data[key] for key in keys if key in data}}
    return EvaluationData(data["source"], own or split, {**own_options, **options})


def _data_of(recipe: Mapping[str, Any]) -> Mapping[str, Any]:
    """The section data of a recipe, which comes from a file of weights."""
    data = recipe.get("data")
    complete = (
        isinstance(data, Mapping)
        and isinstance(data.get("source"), str)
        and isinstance(data.get("options"), Mapping)
        and all(
            isinstance(data.get(key, 0), str | None) for key in ("train_split", "val_split", "test_split")
        )
        and isinstance(data.get("test_fraction"), float | None)
        and isinstance(data.get("split_seed", 0), int)
    )
    require(complete, "recipe", "the section data of a config.yaml", data, "give the data to evaluate on")
    assert isinstance(data, Mapping)
    return data
