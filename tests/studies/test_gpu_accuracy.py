"""The comparison of accuracies, at tiny size on a CPU: it continues exactly, and failures end alone."""

from __future__ import annotations

import json
import re
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

pytest.importorskip("lightning", reason="needs the extra train")

from sasa.train.schedule import warmup_cosine
from studies import gpu_accuracy

TIMES = ("seconds", "images/s", "call")
NAMES = ["convolution", "paper", "sasav2"]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise of two brightnesses, 12 images for training and 4 for the test."""
    folder = tmp_path_factory.mktemp("data")
    generator = torch.Generator().manual_seed(0)
    for split, count in (("train", 6), ("test", 2)):
        for name, light in (("dark", 0), ("light", 128)):
            (folder / "tiny" / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = torch.randint(light, light + 128, (16, 16, 3), generator=generator)
                image = Image.fromarray(pixels.to(torch.uint8).numpy())
                image.save(folder / "tiny" / split / name / f"{number}.png")
    with tarfile.open(folder / "tiny.tar.gz", "w:gz") as file:
        file.add(folder / "tiny", "tiny")
    return folder / "tiny.tar.gz"


def run(archive: Path, out: Path, *options: str) -> dict[str, Any]:
    """Run the script with two epochs, and return what it wrote."""
    tiny = ["--width", "0.25", "--epochs", "2", "--batch", "4"]
    gpu_accuracy.main([str(archive), "--out", str(out), *tiny, *options])
    return written(out)


def written(out: Path) -> dict[str, Any]:
    return json.loads((out / "gpu_accuracy.json").read_text(encoding="utf-8"))


def measured(record: dict[str, Any]) -> list[Any]:
    """The results without times."""
    return [
        row | {"epochs": [{k: v for k, v in epoch.items() if k not in TIMES} for epoch in row["epochs"]]}
        for row in record["results"]
    ]


def done(record: dict[str, Any]) -> list[int]:
    return [len(row["epochs"]) for row in record["results"]]


def test_an_interrupted_run_continues_bit_for_bit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, archive: Path
) -> None:
    whole = run(archive, tmp_path / "whole", "--seeds", "2")
    assert [row["contender"] for row in whole["results"]] == 2 * NAMES
    assert done(whole) == 6 * [2]
    for row in whole["results"]:
        assert row["error"] is None
        assert row["parameters"] > 0 < row["flops"]
        assert (row["logits_error"] is None) == (row["contender"] == "convolution")
        assert all(0 <= epoch["test_top1"] <= 100 and epoch["seconds"] > 0 for epoch in row["epochs"])
    assert len({json.dumps(row["epochs"]) for row in measured(whole)}) == 6, "contenders and seeds differ"

    epoch, calls = gpu_accuracy.Training.epoch, []

    def interrupted(self: gpu_accuracy.Training, *args: Any) -> dict[str, Any]:
        calls.append(self)
        if len(calls) in (5, 10):
            raise KeyboardInterrupt
        return epoch(self, *args)

    monkeypatch.setattr(gpu_accuracy.Training, "epoch", interrupted)
    for expected in ([2, 1, 1, 0, 0, 0], [2, 2, 2, 1, 1, 0]):
        with pytest.raises(KeyboardInterrupt):
            run(archive, tmp_path / "parts", "--seeds", "2")
        assert done(written(tmp_path / "parts")) == expected
    parts = run(archive, tmp_path / "parts", "--seeds", "2")
    assert measured(parts) == measured(whole)
    assert len(parts["calls"]) == 3
    assert {"commit", "date", "machine", "versions"} <= set(parts["calls"][0])
    for name in NAMES:
        states = [torch.load(tmp_path / x / f"{name}-1.pt") for x in ("whole", "parts")]
        pairs = zip(*(state["ema"].values() for state in states), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
        last = states[1]["optimizer"]["param_groups"][0]["lr"]
        assert last == pytest.approx(0.1 * 4 / 128 * warmup_cosine(5, total=6, warmup=0))


def test_a_checkpoint_that_is_newer_than_the_results(tmp_path: Path, archive: Path) -> None:
    """As after a kill between the two; no epoch is repeated."""
    whole = run(archive, tmp_path)
    file = tmp_path / "gpu_accuracy.json"
    behind = written(tmp_path)
    del behind["results"][1]["epochs"][1]
    file.write_text(json.dumps(behind), encoding="utf-8")
    checkpoint = (tmp_path / "paper-0.pt").read_bytes()
    assert run(archive, tmp_path)["results"] == whole["results"]
    assert (tmp_path / "paper-0.pt").read_bytes() == checkpoint


def test_a_contender_that_fails_ends_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, archive: Path
) -> None:
    evaluate, calls = gpu_accuracy.evaluate, []

    def third_fails(*args: Any) -> tuple[float, float]:
        calls.append(args)
        return (float("nan"), 0.0) if len(calls) == 3 else evaluate(*args)

    create = gpu_accuracy.sasa.create_model

    def no_kernel(name: str, *args: Any, **options: Any) -> Any:
        if "stage_types" not in options and name.endswith("stem"):
            raise RuntimeError("no kernel for head_dim 2")
        return create(name, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(gpu_accuracy, "evaluate", third_fails)
        patch.setattr(gpu_accuracy.sasa, "create_model", no_kernel)
        with pytest.raises(SystemExit, match="failed"):
            run(archive, tmp_path)
    errors = [row["error"] for row in written(tmp_path)["results"]]
    assert errors == [
        "FloatingPointError: the test loss of epoch 2 is nan; lower --lr",
        "RuntimeError: no kernel for head_dim 2",
        None,
    ]
    assert done(written(tmp_path)) == [1, 0, 2]
    again = run(archive, tmp_path)
    assert [row["error"] for row in again["results"]] == [None] * 3
    assert done(again) == [2, 2, 2]


def test_wrong_attention_is_not_trained(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, archive: Path
) -> None:
    plain_logits = gpu_accuracy.plain_logits
    monkeypatch.setattr(gpu_accuracy, "plain_logits", lambda *args: 1.01 * plain_logits(*args))
    with pytest.raises(SystemExit, match="failed"):
        run(archive, tmp_path)
    record = written(tmp_path)
    assert done(record) == [2, 0, 0]
    for row in record["results"][1:]:
        assert row["error"].startswith("WrongOutputError: the logits are wrong by 0.0099 of the largest")


def test_no_epoch_begins_that_would_not_fit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, archive: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    epoch = gpu_accuracy.Training.epoch
    monkeypatch.setattr(gpu_accuracy.Training, "epoch", lambda *args: epoch(*args) | {"seconds": 1000.0})
    assert done(run(archive, tmp_path, "--minutes", "9")) == [1, 1, 1]
    assert "the same command continues" in capfd.readouterr().out


def test_an_epoch_ends_with_the_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, archive: Path) -> None:
    """Whatever a compiler makes of the error."""

    def slow(*args: Any) -> None:
        try:
            time.sleep(600)
        except TimeoutError as error:
            raise RuntimeError("the compiler failed") from error

    monkeypatch.setattr(gpu_accuracy.Training, "epoch", slow)
    before = time.monotonic()
    record = run(archive, tmp_path, "--minutes", "0.1")
    assert time.monotonic() - before < 60
    assert [row["error"] for row in record["results"]] == [None] * 3
    assert done(record) == [0, 0, 0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["none.tar"], "data: expected an existing folder or archive of .*, got 'none.tar'"),
        ([], "the following arguments are required: data"),
        ([".", "--fraction", "2"], "--fraction: expected at most 1, got 2.0"),
        ([".", "--epochs", "0"], "--epochs: expected a positive number, got 0"),
    ],
)
def test_wrong_arguments(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        gpu_accuracy.main(options)
    assert re.search(message, capsys.readouterr().err)


def test_other_options_do_not_continue(tmp_path: Path, archive: Path) -> None:
    run(archive, tmp_path, "--fraction", "0.5")
    with pytest.raises(SystemExit, match=r"--out: expected \{'fraction': 0.5.* got \{'fraction': 1.0"):
        run(archive, tmp_path)
