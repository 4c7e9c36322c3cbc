"""The parameters of `AttentionStem`, its errors, and what torch does with it."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import nn
from torch.export import Dim

import sasa
from sasa import AttentionStem

from .test_attention_stem import VALUES

ATTENTION = {
    "query_key.weight": (32, 5, 1, 1),
    "rel_row": (2, 7, 4),
    "rel_col": (2, 7, 4),
    "norm.weight": (16,),
    "norm.bias": (16,),
}


@pytest.mark.parametrize(
    ("values", "own"),
    [
        (
            "spatially_aware",
            {"value.weight": (48, 5, 1, 1), "emb_row": (4, 8), "emb_col": (4, 8), "mixture": (3, 8)},
        ),
        ("convolution", {"value.weight": (16, 5, 4, 4)}),
        ("pointwise", {"value.weight": (16, 5, 1, 1)}),
    ],
)
def test_parameters(values: str, own: dict[str, tuple[int, ...]]) -> None:
    stem = AttentionStem(5, 16, values=values, num_heads=2, num_mixtures=3)
    assert {name: tuple(p.shape) for name, p in stem.named_parameters()} == ATTENTION | own


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"values": "learned"}, r"values: expected one of .*'spatially_aware'.*, got 'learned'"),
        ({"out_channels": 36}, r"out_channels=36 and num_heads=4: expected a multiple of 8 channels"),
        ({"out_channels": 0}, r"out_channels=0 and num_heads=4"),
        ({"num_heads": 0}, r"num_heads: expected at least 1, got 0"),
        ({"num_mixtures": 0}, r"num_mixtures: expected at least 1, got 0"),
        ({"block_size": 0}, r"block_size: expected at least 1, got 0"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AttentionStem(**options)


@pytest.mark.parametrize("shape", [(2, 1, 8, 8), (3, 8, 8)], ids=str)
def test_wrong_input(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"x: expected \(B, 3, H, W\), got ") as error:
        AttentionStem()(torch.randn(shape))
    assert str(shape) in str(error.value)


@pytest.mark.parametrize("values", VALUES)
def test_one_step_trains_every_parameter(values: str) -> None:
    torch.manual_seed(0)
    stem = AttentionStem(3, 8, values=values, num_heads=2)
    head = nn.Linear(8, 1)
    head(stem(torch.randn(4, 3, 10, 9)).mean((2, 3))).square().sum().backward()
    without = [n for n, p in stem.named_parameters() if p.grad is None or p.grad.abs().max() < 1e-7]
    assert not without


@pytest.mark.parametrize("values", VALUES)
def test_state_dict_copies_and_pickles_carry_everything(values: str) -> None:
    torch.manual_seed(0)
    stem, other = (AttentionStem(3, 8, values=values, num_heads=2) for _ in range(2))
    x = torch.randn(2, 3, 10, 9)
    stem(x)  # moves the running statistics
    stem.eval(), other.eval()
    assert not torch.equal(other(x), stem(x))
    other.load_state_dict(stem.state_dict(), strict=True)
    for twin in (other, copy.deepcopy(stem), pickle.loads(pickle.dumps(stem))):
        assert torch.equal(twin(x), stem(x))


def test_reset_draws_again() -> None:
    stem = AttentionStem(3, 8, num_heads=2)
    stem(torch.randn(2, 3, 8, 8))
    before = {name: value.clone() for name, value in stem.state_dict().items()}
    stem.reset_parameters()
    same = [name for name, value in stem.state_dict().items() if torch.equal(value, before[name])]
    assert same == ["norm.weight", "norm.bias"]


@pytest.mark.parametrize("values", VALUES)
def test_initial_spread_of_queries_keys_and_values(values: str) -> None:
    torch.manual_seed(0)
    stem = AttentionStem(32, 512, values=values, num_heads=4)
    assert stem.query_key.weight.std().item() == pytest.approx(32**-0.5, rel=0.02)
    fan_in = 32 * 16 if values == "convolution" else 32
    assert stem.value.weight.std().item() == pytest.approx(fan_in**-0.5, rel=0.02)
    assert stem.rel_row.std().item() == pytest.approx(1, rel=0.1)


def test_device_and_dtype() -> None:
    stem = AttentionStem(device="meta", dtype=torch.float64)
    assert {p.device.type for p in stem.parameters()} == {"meta"}
    assert {p.dtype for p in stem.parameters()} == {torch.float64}
    out = stem(torch.empty(2, 3, 9, 8, device="meta", dtype=torch.float64))
    assert (out.dtype, out.shape) == (torch.float64, (2, 64, 3, 2))


@pytest.mark.parametrize("values", VALUES)
def test_channels_last_gives_the_same(values: str) -> None:
    torch.manual_seed(0)
    stem = AttentionStem(3, 8, values=values, num_heads=2).eval()
    x = torch.randn(2, 3, 8, 12)
    out = stem(x.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(out, stem(x))


@pytest.mark.parametrize("values", VALUES)
def test_autocast(values: str) -> None:
    torch.manual_seed(0)
    stem = AttentionStem(3, 8, values=values, num_heads=2)
    x = torch.randn(2, 3, 10, 9)
    stem.norm.momentum = 0.0
    exact = stem(x)
    with torch.autocast("cpu", torch.bfloat16):
        out = stem(x)
    torch.testing.assert_close(out.float(), exact, rtol=0, atol=0.1)
    out.float().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in stem.parameters())


@pytest.mark.parametrize("values", VALUES)
def test_compiles_exports_and_scripts(values: str) -> None:
    torch.manual_seed(0)
    stem = AttentionStem(3, 8, values=values, num_heads=2).eval()
    x = torch.randn(2, 3, 10, 9)
    want = stem(x)
    assert torch.equal(torch.compile(stem, fullgraph=True, backend="eager")(x), want)
    torch.testing.assert_close(torch.export.export(stem, (x,)).module()(x), want)
    with pytest.warns(FutureWarning, match="`torch.jit.script` is deprecated"):
        scripted = torch.jit.script(nn.Sequential(stem, nn.ReLU()))
    assert torch.equal(scripted(x), want.relu())


@pytest.mark.parametrize("max_pool", [True, False])
@pytest.mark.parametrize("values", VALUES)
def test_exports_for_any_batch_and_size(values: str, max_pool: bool) -> None:
    """By the sizes' names, from a multiple of the blocks and from another size; fused too."""
    torch.manual_seed(0)
    stem = AttentionStem(3, 8, values=values, num_heads=2, max_pool=max_pool).eval()
    dims = {0: Dim("batch"), 2: Dim("height", min=5), 3: Dim("width", min=5)}
    for model in (stem, sasa.fuse(nn.Sequential(stem).eval())):
        program = torch.export.export(model, (torch.randn(2, 3, 12, 9),), dynamic_shapes=(dims,)).module()
        for size in ((3, 3, 8, 16), (1, 3, 7, 5), (2, 3, 13, 10)):
            x = torch.randn(size)
            torch.testing.assert_close(program(x), model(x))


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace.*deprecated", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("values", VALUES)
def test_a_trace_passes_its_own_check(values: str, training: bool) -> None:
    """With gradients on; `torch.jit.trace` checks itself without."""
    torch.manual_seed(0)
    stem = AttentionStem(3, 8, values=values, num_heads=2).train(training)
    x = torch.randn(2, 3, 10, 9)
    assert torch.equal(torch.jit.trace(stem, x)(x), stem(x))
