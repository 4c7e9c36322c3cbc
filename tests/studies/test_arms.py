"""Studies train every arm with every seed, and their JSON and table contain the results."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from studies.arms import arguments, run_arms, top1

ARMS = ("small", "large")


def test_every_arm_is_trained_with_every_seed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["x.py", "--seeds", "2"])
    parser = arguments("", ARMS)
    parser.add_argument("--lr", type=float, default=0.1)
    args = parser.parse_args(["--seeds", "2", "--out", str(tmp_path / "new" / "x.json")])

    def train(arm: str) -> dict[str, float | list[float]]:
        return {"top1": float(torch.initial_seed() + 10 * ARMS.index(arm)), "losses": [1.0]}

    run_arms("x", args, ARMS, train)
    record = json.loads(args.out.read_text(encoding="utf-8"))
    assert [(row["arm"], row["seed"], row["top1"]) for row in record["results"]] == [
        ("small", 0, 0.0),
        ("large", 0, 10.0),
        ("small", 1, 1.0),
        ("large", 1, 11.0),
    ]
    assert record["command"] == "python -m studies.x --seeds 2"
    assert (record["lr"], record["threads"]) == (0.1, torch.get_num_threads())
    assert {"commit", "date", "machine", "versions"} <= set(record)
    table = capsys.readouterr().out.splitlines()[-3:]
    assert [line.split() for line in table[1:]] == [
        ["small", "0.500", "±", "0.500"],
        ["large", "10.500", "±", "0.500"],
    ]


def test_arms_are_chosen_by_number() -> None:
    trained: list[str] = []

    def train(arm: str) -> dict[str, None]:
        trained.append(arm)
        return {"largest_weight": None}

    run_arms("x", arguments("", ARMS).parse_args(["--arms", "1", "--seeds", "1"]), ARMS, train)
    assert trained == ["large"]


def test_top1_is_in_percent() -> None:
    labels = torch.tensor([0, 1, 2, 2])
    assert top1(torch.nn.Identity(), torch.eye(3)[[0, 1, 2, 0]], labels) == 75.0
