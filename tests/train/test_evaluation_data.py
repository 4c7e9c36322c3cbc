from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from sasa.train import TrainConfig
from sasa.train.config_files import plain
from sasa.train.evaluation_data import evaluation_data


def recipe(**data: Any) -> dict[str, Any]:
    content = plain(TrainConfig())
    return {**content, "data": {**content["data"], **data}}


def chosen(recipe: dict[str, Any] | None, source: str | None, split: str | None = "test") -> Any:
    return tuple(evaluation_data(recipe, source, split, {"length": 4}, default_source="scenes"))


def test_what_is_given_is_taken_as_it_is(tmp_path: Path) -> None:
    own = recipe(source=str(tmp_path), test_split="exam", options={"size": 96})
    assert chosen(own, "elsewhere") == ("elsewhere", "test", {"length": 4})


def test_without_a_recipe_the_built_in_data() -> None:
    assert chosen(None, None) == ("scenes", "test", {"length": 4})


def test_the_recipes_data_with_its_splits_and_options(tmp_path: Path) -> None:
    own = recipe(source=str(tmp_path), test_split="exam", options={"size": 96, "length": 9})
    assert chosen(own, None) == (str(tmp_path), "exam", {"size": 96, "length": 4})
    assert chosen(own, None, "validation")[1] == "validation", "held out, so it has no name of the recipe's"
    assert chosen(own, None, "other")[1] == "other"
    assert chosen(own, None, None)[1] is None


@pytest.mark.parametrize("source", ["/nowhere", "wds/pipe:touch x", "hfds/author/data"])
def test_data_that_are_not_here_are_not_fetched(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor if a folder is called like timm's name."""
    monkeypatch.chdir(tmp_path)
    Path("wds/pipe:touch x").mkdir(parents=True)
    Path("hfds/author/data").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=f"trained on, got '{source}', which is no existing file"):
        chosen(recipe(source=source), None)


@pytest.mark.parametrize("damage", [{}, {"data": 3}, {"data": {"source": "scenes"}}])
def test_a_recipe_of_anyone_is_refused_in_words(damage: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"recipe: expected the section data of a config\.yaml, got "):
        chosen(damage, None)


def test_only_folders_and_files_of_a_recipe_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileNotFoundError, match="which is no existing file or folder"):
        chosen(recipe(source=str(tmp_path / "pipe")), None)
