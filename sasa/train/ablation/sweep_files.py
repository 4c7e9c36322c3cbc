"""Sweeps as YAML files; those that come with sasa are in the folder sweeps."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sasa.errors import did_you_mean
from sasa.train.classification.config import TrainConfig
from sasa.train.config_files import read_yaml

RECIPE = Path(__file__).with_name("recipe.yaml")
"""The default recipe."""

_SWEEPS = Path(__file__).with_name("sweeps")
_SECTIONS = {field.name for field in dataclasses.fields(TrainConfig)} - {"seed", "run"}


@dataclass(frozen=True)
class CellFile:
    """One network and recipe of a sweep.

    Attributes:
        name: Name within the sweep.
        config: What the cell changes, nested as in a recipe.
        paper: The paper's top-1 in %, or None.
        series: Cells of a series are joined by a line in plots; None for a single point.
    """

    name: str
    config: dict[str, Any]
    paper: float | None = None
    series: str | None = None


@dataclass(frozen=True)
class SweepFile:
    """A sweep.

    Attributes:
        name: Name, such as "table5".
        title: What varies.
        cells: The cells, in the order of the table.
        config: What the sweep changes in the recipe, for all cells.
        claims: Pairs of cells of which the paper reports the first as more accurate.
        paper: Table or figure of the paper, with network and data.
        note: A remark for the report.
    """

    name: str
    title: str
    cells: tuple[CellFile, ...]
    config: dict[str, Any]
    claims: tuple[tuple[str, str], ...] = ()
    paper: str = ""
    note: str = ""


def sweep_names() -> list[str]:
    """The sweeps that come with sasa; tables come first."""
    return sorted((path.stem for path in _SWEEPS.glob("*.yaml")), key=lambda name: (name[0] != "t", name))


def read_sweep(sweep: str) -> SweepFile:
    """Read a sweep.

    Args:
        sweep: A name from sweep_names, or a YAML file.

    Raises:
        ValueError: There is no such sweep, or its file is invalid.
    """
    path = _SWEEPS / f"{sweep}.yaml"
    if sweep not in sweep_names():
        path = Path(sweep)
        if path.suffix not in (".yaml", ".yml") or not path.is_file():
            hint = did_you_mean(sweep, sweep_names(), otherwise="or give a YAML file")
            raise ValueError(f"sweep: expected one of {', '.join(sweep_names())}, got {sweep!r}{hint}")
    content = read_yaml(path)
    _check(content, {"title", "cells"}, {"config", "claims", "paper", "note"}, str(path))
    config = content.get("config", {})
    _check(config, set(), _SECTIONS, f"{path}: config")
    if not (isinstance(content["cells"], list) and content["cells"]):
        raise ValueError(f"{path}: cells: expected a list of at least one, got {content['cells']!r}")
    cells = tuple(_cell(cell, number, path) for number, cell in enumerate(content["cells"], 1))
    names = [cell.name for cell in cells]
    if len(set(names)) < len(names):
        raise ValueError(f"{path}: cells: expected different names, got {names}")
    claims = content.get("claims", [])
    if not isinstance(claims, list):
        raise ValueError(f"{path}: claims: expected a list of pairs of cells, got {claims!r}")
    text = {key: str(content.get(key, "")).strip() for key in ("title", "paper", "note")}
    return SweepFile(
        name=path.stem,
        cells=cells,
        config=config,
        claims=tuple(_claim(claim, names, path) for claim in claims),
        **text,
    )


def _cell(content: Any, number: int, path: Path) -> CellFile:
    _check(content, {"name"}, {"paper", "series", *_SECTIONS}, f"{path}: cell {number}")
    name, paper = str(content["name"]), content.get("paper")
    if not (paper is None or type(paper) in (int, float)):
        raise ValueError(f"{path}: cell {name!r}: paper: expected a number, the top-1 in %, got {paper!r}")
    config = {key: value for key, value in content.items() if key in _SECTIONS}
    return CellFile(name, config, None if paper is None else float(paper), content.get("series"))


def _claim(content: Any, names: list[str], path: Path) -> tuple[str, str]:
    # As text, like the names, since YAML reads some names as numbers.
    pair = [str(name) for name in content] if isinstance(content, list) else []
    if not (len(pair) == 2 and set(pair) <= set(names)):
        raise ValueError(f"{path}: claims: expected pairs of the cells {names}, got {content!r}")
    return pair[0], pair[1]


def _check(content: Any, required: set[str], optional: set[str], where: str) -> None:
    if not isinstance(content, dict):
        raise ValueError(f"{where}: expected keys such as {sorted(required | optional)}, got {content!r}")
    if missing := sorted(required - content.keys()):
        raise ValueError(f"{where}: expected {', '.join(missing)}, got {sorted(content)}")
    if unknown := sorted(content.keys() - required - optional):
        raise ValueError(f"{where}: expected only {sorted(required | optional)}, got {', '.join(unknown)}")
