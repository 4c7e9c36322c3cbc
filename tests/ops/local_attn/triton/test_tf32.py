"""float32 maps meet tensor cores where torch's setting for products on CUDA devices lets them, only then."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch

from sasa.ops.local_attn.backends.triton import tiles
from sasa.ops.local_attn.spec import LocalAttentionSpec

from .needs import needs_triton

MATMUL = torch.backends.cuda.matmul
WINDOW = (2, 7, 7, 1, 1, 1.0, 1)  # heads, window, dilation, scale, pool


@pytest.fixture(autouse=True)
def _setting() -> Iterator[None]:
    """As it was, in both of torch's ways to set it."""
    before = MATMUL.fp32_precision
    yield
    torch.set_float32_matmul_precision("highest")
    MATMUL.fp32_precision = before


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the kernels that would have run."""
    from sasa.ops.local_attn.backends.triton import launch

    names: list[str] = []
    monkeypatch.setattr(launch.Launch, "__call__", lambda self: names.append(self.kernel.fn.__name__))
    return names


def train(dtype: torch.dtype, width: int) -> None:
    """The op's forward and backward, on empty results as nothing is launched."""
    from sasa.ops.local_attn.backends.triton import op

    q = torch.zeros(1, 2 * width, 9, 9, dtype=dtype)
    rel = torch.zeros(2, 7, width // 2)
    out, lse = op.forward(q, q, q, rel, rel, *WINDOW, False, False, True)
    op.backward(out, q, q, q, rel, rel, lse, *WINDOW, False)


WITHOUT = ["forward_kernel", "queries_kernel", "keys_kernel"]
WITH = ["forward_dot_kernel", "queries_dot_kernel", "keys_dot_kernel"]


def set_fp32_precision(value: str) -> None:
    MATMUL.fp32_precision = value


def set_allow_tf32(value: bool) -> None:
    MATMUL.allow_tf32 = value


SETTINGS: dict[str, tuple[Callable[[], None], bool]] = {
    "nothing": (lambda: None, False),
    "fp32_precision = tf32": (partial(set_fp32_precision, "tf32"), True),
    "fp32_precision = ieee": (partial(set_fp32_precision, "ieee"), False),
    "allow_tf32": (partial(set_allow_tf32, True), True),
    "not allow_tf32": (partial(set_allow_tf32, False), False),
    "high": (partial(torch.set_float32_matmul_precision, "high"), True),
    "medium": (partial(torch.set_float32_matmul_precision, "medium"), True),
    "highest": (partial(torch.set_float32_matmul_precision, "highest"), False),
}


@needs_triton
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", SETTINGS)
def test_the_setting_selects_at_each_call(name: str, launched: list[str]) -> None:
    change, allowed = SETTINGS[name]
    train(torch.float32, 16)
    change()
    train(torch.float32, 16)
    assert launched == WITHOUT + (WITH if allowed else WITHOUT)


@needs_triton
def test_it_changes_float32_alone(launched: list[str]) -> None:
    train(torch.float16, 16)
    set_fp32_precision("tf32")
    train(torch.float16, 16)
    assert launched == WITH + WITH


@needs_triton
def test_heads_of_8_and_float32_keep_their_precision(launched: list[str]) -> None:
    """A product would be half padding, and half as fast as one in half precision."""
    set_fp32_precision("tf32")
    train(torch.float32, 8)
    assert launched == WITHOUT


def test_can_and_pays() -> None:
    window: dict[str, Any] = {"kernel_size": (7, 7), "dilation": (1, 1), "scale": 1.0, "pool": 1}
    spec = LocalAttentionSpec(num_heads=8, **window)
    assert tiles.can_dot(spec, itemsize=4, head_dim=16, tf32=True)
    assert not tiles.can_dot(spec, itemsize=4, head_dim=16)
    for width in (8, 16, 32, 64, 128):
        for forward in (True, False):
            pays = tiles.dot_pays(spec, query_dim=width, head_dim=width, forward=forward, itemsize=4)
            assert pays == (16 <= width <= 64)


@needs_triton
def test_a_tile_of_float32_holds_as_many_bytes() -> None:
    """Of keys at once; a wider row has as many threads as it needs registers for."""
    half = [tiles.choose_dot(width=56, kernel_cols=7, head_dim=n) for n in (16, 32, 64)]
    single = [tiles.choose_dot(width=56, kernel_cols=7, head_dim=n, itemsize=4) for n in (8, 16, 32, 64)]
    assert [t.key_rows * t.key_cols for t in half] == [64, 32, 32]
    assert [t.key_rows * t.key_cols for t in single] == [32, 32, 32, 32]
    assert [t.warps for t in half] == [1, 1, 1]
    assert [t.warps for t in single] == [1, 1, 1, 2]
