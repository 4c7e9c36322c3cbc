"""The sweeps of the paper's tables, and the errors of a user's own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sasa.models.paper_tables import TABLES
from sasa.models.sasa_resnet import network_arguments
from sasa.train import parse_config
from sasa.train.ablation.plan import _merge
from sasa.train.ablation.sweep_files import read_sweep, sweep_names

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    "path", sorted((ROOT / "recipes" / "sweeps").glob("*.yaml")), ids=lambda path: path.stem
)
def test_our_own_sweeps_are_those_of_docs_results(path: Path) -> None:
    """A sweep without results says so."""
    sweep = read_sweep(str(path))
    published = [
        described
        for results in sorted((ROOT / "docs" / "results").glob("*/results.json"))
        for described in json.loads(results.read_text(encoding="utf-8"))["sweeps"]
        if described["name"] == sweep.name
    ]
    assert bool(published) != path.read_text(encoding="utf-8").startswith("# NOT RUN")
    for ran in published:
        assert [cell["name"] for cell in ran["cells"]] == [cell.name for cell in sweep.cells]
        assert ran["claims"] == [list(claim) for claim in sweep.claims]


def test_every_table_has_its_sweep() -> None:
    assert sweep_names() == [*(f"table{table.number}" for table in TABLES), "figure5", "resnet26", "sasav2"]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: str(table.number))
def test_cells_are_the_rows_that_the_paper_printed(table: object) -> None:
    sweep = read_sweep(f"table{table.number}")  # type: ignore[attr-defined]
    rows = table.rows  # type: ignore[attr-defined]
    assert [(cell.name, cell.paper) for cell in sweep.cells] == [(row.label, row.top1) for row in rows]
    for cell, row in zip(sweep.cells, rows, strict=True):
        ours = _merge(sweep.config, cell.config)["model"]
        name = ours["name"].replace("26", "50") if table.number != 1 else ours["name"]  # type: ignore[attr-defined]
        mine, theirs = (  # a list in YAML is a tuple in Python
            json.dumps(network_arguments(*network), sort_keys=True)
            for network in ((name, ours.get("options", {})), (row.model, row.options))
        )
        assert mine == theirs, row.label


def test_resnet26_is_the_first_rows_of_table_1() -> None:
    resnet26, table = read_sweep("resnet26"), read_sweep("table1")
    assert [(cell.config, cell.paper) for cell in resnet26.cells] == [
        ({"model": cell.config["model"]}, cell.paper) for cell in table.cells[:3]
    ]


@pytest.mark.parametrize("name", sweep_names())
def test_claims_are_the_papers_order(name: str) -> None:
    sweep = read_sweep(name)
    printed = {cell.name: cell.paper for cell in sweep.cells}
    assert sweep.claims
    assert len(set(sweep.claims)) == len(sweep.claims)
    for better, worse in sweep.claims:
        if name == "figure5":  # the paper prints no numbers
            assert better.replace("conv stem + attention", "convolution") == worse
        elif name != "sasav2":
            assert printed[better] > printed[worse]


def test_the_recipe_is_a_recipe() -> None:
    from sasa.train.ablation.sweep_files import RECIPE

    assert parse_config(["--config", str(RECIPE)]).data.source == "fashion-mnist"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("cells: []\n", "expected title, got"),
        ("title: x\ncells: []\nclaim: []\n", "expected only .*, got claim"),
        ("title: x\ncells: [{paper: 3}]\n", "cell 1: expected name, got"),
        ("title: x\ncells: [{name: a, options: {}}]\n", "cell 1: expected only .*, got options"),
        ("title: x\ncells: [{name: a}, {name: a}]\n", "cells: expected different names, got"),
        ("title: x\ncells: [{name: a}, {name: b}]\nclaims: [[a, c]]\n", r"pairs of the cells \['a', 'b'\]"),
        ("title: x\ncells: [{name: a}]\nconfig: {seed: 1}\n", "config: expected only .*, got seed"),
        ("title: x\ncells: []\n", r"mine.yaml: cells: expected a list of at least one, got \[\]"),
        ("title: x\ncells:\n", "mine.yaml: cells: expected a list of at least one, got None"),
        (
            "title: x\ncells: [{name: a}]\nclaims:\n",
            "mine.yaml: claims: expected a list of pairs .* got None",
        ),
        ("title: x\ncells: [{name: a}]\nclaims: [a]\n", r"mine.yaml: claims: expected pairs .* got 'a'"),
        (
            "title: x\ncells: [{name: a, paper: abc}]\n",
            "mine.yaml: cell 'a': paper: expected a number, .* got 'abc'",
        ),
    ],
)
def test_a_faulty_sweep_says_what_is_wrong(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        read_sweep(str(path))


def test_names_that_are_numbers_to_yaml_are_text_in_claims_too(tmp_path: Path) -> None:
    path = tmp_path / "widths.yaml"
    path.write_text("title: x\ncells: [{name: 0.5, paper: 70}, {name: 1.0}]\nclaims: [[0.5, 1.0]]\n")
    sweep = read_sweep(str(path))
    assert [(cell.name, cell.paper) for cell in sweep.cells] == [("0.5", 70), ("1.0", None)]
    assert sweep.claims == (("0.5", "1.0"),)


def test_an_unknown_sweep_names_the_nearest() -> None:
    with pytest.raises(
        ValueError,
        match=r"one of table1, .*figure5, resnet26, sasav2, got 'tabel4'; did you mean 'table4'",
    ):
        read_sweep("tabel4")
