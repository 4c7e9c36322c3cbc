"""The tables of a folder that sweeps were run in before; the results are made up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sasa.train import ablate, plan_sweeps
from sasa.train.ablation.plan import Sweep
from sasa.train.ablation.tables import require_results_kept, write_tables

RATES = (
    "title: Rates\ncells:\n- {name: low, optimizer: {lr_base: 8}}\n- {name: high, optimizer: {lr_base: 32}}\n"
)
RESULTS = {
    **dict.fromkeys(("top1", "loss", "val_top1", "training_seconds"), 0.5),
    **dict.fromkeys(("epochs", "steps", "training_images", "peak_memory_bytes", "threads"), 1),
    **dict.fromkeys(("model", "data", "device", "precision"), "x"),
    "versions": dict.fromkeys(("sasa", "torch", "timm", "lightning"), "1"),
}


@pytest.fixture
def rates(tmp_path: Path) -> str:
    path = tmp_path / "rates.yaml"
    path.write_text(RATES)
    return str(path)


def finish(sweep: Sweep, cell: int, seed: int, out: Path) -> None:
    folder = sweep.cells[cell].folder(out, seed)
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps(RESULTS))


def cells_of(out: Path) -> list[tuple[str, str, int]]:
    content = json.loads((out / "results.json").read_text())
    return [(row["sweep"], row["cell"], row["seed"]) for row in content["runs"]]


def test_a_sweep_by_another_recipe_does_not_replace_what_is_finished(
    rates: str, recipe: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    (planned,) = plan_sweeps([rates], [], recipe)
    for seed in (0, 1):
        finish(planned, 0, seed, out)
    write_tables([planned], out)
    before = (out / "results.json").read_bytes()
    other = plan_sweeps([rates], ["--optimizer.epochs", "3"], recipe)
    with pytest.raises(
        ValueError, match=r"2 finished runs of rates by another recipe \(low\).* another --out"
    ):
        ablate(other, out, seeds=1)
    assert (out / "results.json").read_bytes() == before
    assert len(list(out.glob("runs/*"))) == 1, "nothing is trained"


def test_a_recipe_by_which_nothing_is_finished_may_change(rates: str, recipe: Path, tmp_path: Path) -> None:
    write_tables(plan_sweeps([rates], [], recipe), tmp_path)
    other = plan_sweeps([rates], ["--optimizer.epochs", "3"], recipe)
    require_results_kept(other, tmp_path)
    require_results_kept(other, tmp_path / "new")


def test_cells_and_sweeps_may_be_added_and_cells_taken_out(
    rates: str, sweep: str, recipe: Path, tmp_path: Path
) -> None:
    (planned,) = plan_sweeps([rates], [], recipe)
    finish(planned, 0, 0, tmp_path)
    write_tables([planned], tmp_path)
    Path(rates).write_text(RATES.replace("low", "slow") + "- {name: middle, optimizer: {lr_base: 16}}\n")
    more = plan_sweeps([sweep, rates], [], recipe)
    require_results_kept(more, tmp_path)
    finish(more[1], 2, 0, tmp_path)
    finish(more[0], 0, 0, tmp_path)
    write_tables(more, tmp_path)
    assert cells_of(tmp_path) == [("two", "k = 3", 0), ("rates", "slow", 0), ("rates", "middle", 0)]
    Path(rates).write_text(RATES.replace("low", "slow"))
    fewer = plan_sweeps([rates], [], recipe)
    require_results_kept(fewer, tmp_path)
    write_tables(fewer, tmp_path)
    assert cells_of(tmp_path) == [("two", "k = 3", 0), ("rates", "slow", 0)]
