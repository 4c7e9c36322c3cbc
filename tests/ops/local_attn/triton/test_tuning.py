"""Measured choices: made when asked for alone, kept in a file, refused on another machine."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from sasa.ops.local_attn.backends import triton
from sasa.ops.local_attn.backends.triton import choices, tuning
from sasa.ops.local_attn.backends.triton.choices import CHOICES, Choice, Machine
from sasa.ops.local_attn.backends.triton.tuning import load_tuning, tune_local_attention
from sasa.ops.local_attn.inputs import LocalAttentionInputs
from sasa.ops.local_attn.spec import LocalAttentionSpec

from .needs import needs_triton

HERE = Machine("NVIDIA H100", "3.9.0")
SPEC = LocalAttentionSpec(num_heads=2, kernel_size=(7, 7), dilation=(1, 1), scale=1.0, pool=1)
FORMS = ["ordinary, warps 4", "ordinary, warps 8", "dot, warps 1", "dot, warps 2", "dot, warps 4"]
KEY = "forward: a shape"


@pytest.fixture(autouse=True)
def _nothing_measured() -> Iterator[None]:
    assert CHOICES == {}
    yield
    CHOICES.clear()


@pytest.fixture(autouse=True)
def _machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Machine, "current", classmethod(lambda cls: HERE))


def form(one: Any) -> Choice:
    """Of a launch."""
    return Choice("dot" in one.kernel.fn.__name__, one.warps)


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[Choice]:
    """What would have run on a GPU; CPU tensors are taken."""
    from sasa.ops.local_attn.backends.triton import launch

    found: list[Choice] = []
    monkeypatch.setattr(launch.Launch, "__call__", lambda self: found.append(form(self)))
    monkeypatch.setattr(triton, "why_not", lambda *_: [])
    monkeypatch.setattr(torch.cuda, "device", lambda _: contextlib.nullcontext())
    return found


def fastest(monkeypatch: pytest.MonkeyPatch, *wanted: Choice) -> None:
    """A timer for which these take 1 ms and all others 2."""
    time: Callable[[Any], float] = lambda one: 1.0 if form(one) in wanted else 2.0  # noqa: E731
    monkeypatch.setattr(tuning, "_time", time)


def maps(batch: int = 1, dtype: torch.dtype = torch.bfloat16) -> LocalAttentionInputs:
    """Two heads of 16."""
    x, rel = torch.zeros(batch, 32, 9, 9, dtype=dtype), torch.zeros(2, 7, 8)
    return LocalAttentionInputs(x, x, x, rel, rel, SPEC)


def train(given: LocalAttentionInputs) -> None:
    """The op, forward and backward."""
    from sasa.ops.local_attn.backends.triton import op

    out, lse = op.forward(*given.arguments, False, False, True)
    op.backward(out, *given.tensors, lse, *SPEC.arguments, False)


TABLE = [Choice(True, 1)] * 3


@needs_triton
def test_nothing_is_measured_unless_asked(launched: list[Choice], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "_time", None)
    train(maps())
    assert launched == TABLE
    assert CHOICES == {}


@needs_triton
@pytest.mark.parametrize("choice", [Choice(False, 4), Choice(False, 8), Choice(True, 2), Choice(True, 4)])
def test_the_fastest_is_used_for_these_arguments_alone(
    choice: Choice, launched: list[Choice], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fastest(monkeypatch, choice)
    times = tune_local_attention(maps(), file=tmp_path / "here.json")
    assert set(times) == {"forward", "queries", "keys"}
    for one in times.values():
        assert sorted(one) == sorted(FORMS)
        assert next(iter(one)) == "dot, warps 1", "the table's comes first"
        assert sorted(one.values()) == [1.0, 2.0, 2.0, 2.0, 2.0]
    launched.clear()
    train(maps())
    assert launched == [choice] * 3
    launched.clear()
    train(maps(batch=2))
    assert launched == TABLE


@needs_triton
def test_of_equal_ones_the_table_stays(
    launched: list[Choice], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fastest(monkeypatch)
    tune_local_attention(maps(), file=tmp_path / "here.json")
    assert set(CHOICES.values()) == set(TABLE)


@needs_triton
def test_tensor_cores_are_for_float32_where_tf32_is_allowed(
    launched: list[Choice], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """While it is: what was measured with it is not used without."""
    fastest(monkeypatch, Choice(True, 2))
    single = maps(dtype=torch.float32)
    plain = tune_local_attention(single, file=tmp_path / "here.json")
    assert sorted(plain["keys"]) == FORMS[:2]
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    try:
        matmul.fp32_precision = "tf32"
        allowed = tune_local_attention(single, file=tmp_path / "here.json")
        launched.clear()
        train(single)
    finally:
        matmul.fp32_precision = before
    assert sorted(allowed["keys"]) == sorted(FORMS)
    train(single)
    assert [one.dot for one in launched] == [True] * 3 + [False] * 3


@needs_triton
def test_the_file_keeps_them(launched: list[Choice], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of several calls, and for another process."""
    file = tmp_path / "here.json"
    fastest(monkeypatch, Choice(True, 4))
    tune_local_attention(maps(), file=file)
    fastest(monkeypatch, Choice(False, 4))
    tune_local_attention(maps(batch=2), file=str(file))
    CHOICES.clear()
    load_tuning(file)
    launched.clear()
    train(maps())
    train(maps(batch=2))
    assert launched == [Choice(True, 4)] * 3 + [Choice(False, 4)] * 3
    assert {json.loads(file.read_text())[name] for name in ("device", "triton")} == {"NVIDIA H100", "3.9.0"}


@pytest.mark.parametrize("other", [Machine("NVIDIA A100", "3.9.0"), Machine("NVIDIA H100", "3.6.0")])
def test_another_machines_file_is_refused(other: Machine, tmp_path: Path) -> None:
    file = tmp_path / "there.json"
    choices.write(file, {KEY: Choice(True, 2)}, other)
    expected = (
        f"choices for NVIDIA H100 with Triton 3.9.0, got .* for {other.device} with Triton {other.triton}"
    )
    with pytest.raises(ValueError, match=expected):
        load_tuning(file)
    assert CHOICES == {}


@needs_triton
def test_another_machines_file_is_not_overwritten(launched: list[Choice], tmp_path: Path) -> None:
    file = tmp_path / "there.json"
    choices.write(file, {KEY: Choice(True, 2)}, Machine("NVIDIA A100", "3.9.0"))
    before = file.read_bytes()
    with pytest.raises(ValueError, match="tune into another file"):
        tune_local_attention(maps(), file=file)
    assert file.read_bytes() == before
    assert launched == []


KERNELS = {"device": HERE.device, "triton": HERE.triton}


@pytest.mark.parametrize(
    "text",
    [
        "not JSON",
        "[]",
        "{}",
        json.dumps(KERNELS | {"kernels": {KEY: {"dot": True}}}),
        json.dumps(KERNELS | {"kernels": {KEY: {"dot": 1, "warps": 4}}}),
        json.dumps(KERNELS | {"kernels": {KEY: {"dot": True, "warps": 3}}}),
        json.dumps(KERNELS | {"kernels": {KEY: {"dot": True, "warps": 4, "stages": 1}}}),
    ],
)
def test_another_file_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "other.json"
    file.write_text(text)
    with pytest.raises(ValueError, match="expected what tune_local_attention writes"):
        load_tuning(file)
    assert CHOICES == {}


def test_no_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_tuning(tmp_path / "none.json")


def test_what_triton_does_not_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"q: expected what backend 'triton' runs, got .*tensors are on cpu"):
        tune_local_attention(maps(), file=tmp_path / "here.json")
    assert not list(tmp_path.iterdir())


@needs_triton
def test_no_image_is_refused(launched: list[Choice], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="got no image"):
        tune_local_attention(maps(batch=0), file=tmp_path / "here.json")
