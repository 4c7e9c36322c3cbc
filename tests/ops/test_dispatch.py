"""The choice of the backend: never a silent fallback."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sasa import local_attention
from sasa.ops import block_attention, dispatch, local_self_attention, support
from sasa.ops.local_attn import api
from sasa.ops.local_attn.backends import BACKENDS
from sasa.ops.local_attn.inputs import LocalAttentionInputs

X = torch.arange(36.0).reshape(1, 4, 3, 3)
OPTIONS: dict[str, Any] = {"num_heads": 2, "kernel_size": 3}


class Fake:
    """A backend that gives its reasons, or fills the output with one number."""

    def __init__(self, name: str, value: float = 0.0, reasons: tuple[str, ...] = ()) -> None:
        self.NAME = name
        self.value = value
        self.reasons = reasons

    def why_not(self, inputs: LocalAttentionInputs) -> list[str]:
        return list(self.reasons)

    def local_attention(self, inputs: LocalAttentionInputs) -> torch.Tensor:
        assert not self.reasons, "called although it had refused"
        return torch.full_like(inputs.v, self.value)


REFUSING = Fake("refusing", reasons=("no such device", "the head is too wide"))
ONE, TWO = Fake("one", 1.0), Fake("two", 2.0)


def use(monkeypatch: pytest.MonkeyPatch, *backends: Any) -> None:
    monkeypatch.setattr(api, "BACKENDS", backends)
    monkeypatch.setitem(dispatch._OPS, local_attention, (backends, LocalAttentionInputs.validated))


def test_reference_is_there_and_runs_everything() -> None:
    names = [backend.NAME for backend in BACKENDS]
    assert len(set(names)) == len(names)
    assert "auto" not in names
    assert names[-1] == "reference", "the last that auto tries, as it always can"
    assert support(local_attention, X, X, X, **OPTIONS)["reference"] == []


def test_support_answers_for_every_op() -> None:
    weight, rows = torch.ones(12, 4, 1, 1), torch.ones(1, 1, 1)
    table = support(local_self_attention, X, weight, num_heads=2)
    assert list(table) == ["fused_cpu", "cpu", "triton", "reference"]
    assert table["fused_cpu"] == table["cpu"]
    assert support(local_self_attention, X, weight.requires_grad_(), num_heads=2)["fused_cpu"]
    table = support(block_attention, X[:, :1], rows, rows[None], rows, block_size=1, max_pool=True)
    assert list(table) == ["cpu", "triton", "reference"]
    assert table["reference"] == []


def test_support_of_something_else() -> None:
    with pytest.raises(ValueError, match=r"^op: expected one of the functions .*, got <built-in"):
        support(torch.relu, X)
    with pytest.raises(TypeError, match="num_heads"):
        support(local_attention, X, X, X)


def test_unknown_name(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, ONE, TWO)
    with pytest.raises(ValueError, match=r"^backend: .*'auto'.*\['one', 'two'\].*'cudnn'"):
        local_attention(X, X, X, **OPTIONS, backend="cudnn")


def test_auto_takes_the_first_that_can(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, REFUSING, TWO, ONE)
    assert (local_attention(X, X, X, **OPTIONS) == 2).all()
    assert (local_attention(X, X, X, **OPTIONS, backend="auto") == 2).all()


def test_a_named_backend_runs_although_another_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, ONE, TWO)
    assert (local_attention(X, X, X, **OPTIONS, backend="two") == 2).all()


def test_a_named_backend_never_falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, ONE, REFUSING, TWO)
    with pytest.raises(ValueError, match=r"^backend: expected .*, got 'refusing'") as caught:
        local_attention(X, X, X, **OPTIONS, backend="refusing")
    assert all(reason in str(caught.value) for reason in REFUSING.reasons)


def test_an_error_inside_a_backend_is_no_reason_to_try_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Broken(Fake):
        def local_attention(self, inputs: LocalAttentionInputs) -> torch.Tensor:
            raise RuntimeError("out of registers")

    use(monkeypatch, Broken("broken"), ONE)
    with pytest.raises(RuntimeError, match="out of registers"):
        local_attention(X, X, X, **OPTIONS)


def test_nobody_can(monkeypatch: pytest.MonkeyPatch) -> None:
    other = Fake("other", reasons=("not compiled",))
    use(monkeypatch, REFUSING, other)
    with pytest.raises(ValueError, match=r"^backend: expected .*, got 'auto'") as caught:
        local_attention(X, X, X, **OPTIONS)
    words = ("refusing: no such device", "the head is too wide", "other: not compiled")
    assert all(word in str(caught.value) for word in words)


def test_support_shows_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order in which auto tries them."""
    use(monkeypatch, TWO, REFUSING, ONE)
    table = support(local_attention, X, X, X, **OPTIONS)
    assert list(table.items()) == [("two", []), ("refusing", list(REFUSING.reasons)), ("one", [])]


@pytest.mark.parametrize("relu", [False, True])
def test_a_backend_is_told_of_the_relu(monkeypatch: pytest.MonkeyPatch, relu: bool) -> None:
    """When asked whether it can and when called; nobody else takes it."""
    seen = []

    class Spy(Fake):
        def why_not(self, inputs: LocalAttentionInputs) -> list[str]:
            seen.append(inputs.spec.relu)
            return []

        def local_attention(self, inputs: LocalAttentionInputs) -> torch.Tensor:
            seen.append(inputs.spec.relu)
            return torch.full_like(X, -1.0)

    use(monkeypatch, Spy("spy"))
    support(local_attention, X, X, X, **OPTIONS, relu=relu)
    assert (local_attention(X, X, X, **OPTIONS, relu=relu) == -1).all()
    assert seen == [relu] * 3


def test_wrong_arguments_reach_no_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Fake("any"))
    with pytest.raises(ValueError, match="kernel_size"):
        local_attention(X, X, X, num_heads=2, kernel_size=2)


def test_a_backend_sees_the_arguments_as_they_will_be_computed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Under autocast, after the cast; else a backend might be asked for a dtype that never comes."""
    seen = []

    class Spy(Fake):
        def why_not(self, inputs: LocalAttentionInputs) -> list[str]:
            seen.append(inputs.q.dtype)
            return []

    use(monkeypatch, Spy("spy"))
    with torch.autocast("cpu", torch.bfloat16):
        support(local_attention, X, X, X, **OPTIONS)
        local_attention(X, X, X, **OPTIONS)
    assert seen == [torch.bfloat16, torch.bfloat16]
