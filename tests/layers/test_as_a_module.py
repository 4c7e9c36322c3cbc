"""The attention layer among PyTorch's own: a drop-in for nn.Conv2d under everything that torch does."""

from __future__ import annotations

import io

import pytest
import torch
from torch import nn

from sasa import LocalSelfAttention2d


@pytest.fixture
def layer() -> LocalSelfAttention2d:
    torch.manual_seed(0)
    return LocalSelfAttention2d(6, 16, 3, num_heads=4)


def network(first: nn.Module, second: nn.Module) -> nn.Sequential:
    return nn.Sequential(
        first, nn.BatchNorm2d(16), nn.ReLU(), second, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)
    )


def test_stands_where_a_convolution_stood() -> None:
    torch.manual_seed(0)
    conv = network(nn.Conv2d(3, 16, 3, 2, padding=1), nn.Conv2d(16, 8, 3, padding=1))
    attention = network(
        LocalSelfAttention2d(3, 16, 3, 2, num_heads=4, bias=True),
        LocalSelfAttention2d(16, 8, 3, num_heads=2),
    )
    x = torch.randn(4, 3, 9, 7)
    for twin, own in zip(conv[:4], attention[:4], strict=True):
        assert own(x).shape == twin(x).shape
        x = own(x)


def test_one_step_trains_every_parameter() -> None:
    torch.manual_seed(0)
    model = network(
        LocalSelfAttention2d(3, 16, 3, 2, num_heads=4, bias=True),
        LocalSelfAttention2d(16, 8, 3, num_heads=2),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    x, target = torch.randn(8, 3, 9, 7), torch.arange(8) % 3
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    loss = nn.functional.cross_entropy(model(x), target)
    loss.backward()
    # Batch norm takes off what a bias adds to the values; a bias of the keys moves no softmax.
    moved = [name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().max() > 1e-6]
    assert moved == list(before)
    optimizer.step()
    assert nn.functional.cross_entropy(model(x), target) < loss


@pytest.mark.parametrize("stride", [1, 2])
def test_any_map_size(stride: int) -> None:
    layer = LocalSelfAttention2d(6, 16, 7, stride, num_heads=4)
    for height, width in ((1, 1), (2, 9), (13, 8), (32, 32)):
        out = layer(torch.randn(1, 6, height, width))
        assert out.shape == (1, 16, -(-height // stride), -(-width // stride))
    assert layer(torch.randn(0, 6, 5, 5)).shape == (0, 16, -(-5 // stride), -(-5 // stride))


@pytest.mark.parametrize("stride", [1, 2])
def test_channels_last_stays_channels_last(stride: int) -> None:
    torch.manual_seed(0)
    layer = LocalSelfAttention2d(6, 16, 3, stride, num_heads=4)
    x = torch.randn(2, 6, 8, 9)
    out = layer(x.contiguous(memory_format=torch.channels_last))
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert not out.is_contiguous()
    assert layer(x).is_contiguous()
    torch.testing.assert_close(out, layer(x))


def test_autocast(layer: LocalSelfAttention2d) -> None:
    x = torch.randn(2, 6, 8, 9)
    exact = layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(x)
    assert out.dtype == torch.bfloat16
    # Measured over seeds: 0.03 to 0.07 of outputs up to 5.6.
    torch.testing.assert_close(out.float(), exact, rtol=0, atol=0.15)
    out.sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in layer.parameters())


def test_named_backend_reaches_the_op(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def record(*args: torch.Tensor, backend: str, **options: object) -> torch.Tensor:
        asked.append(backend)
        return args[0]

    layers = LocalSelfAttention2d(6, 16, backend="reference"), LocalSelfAttention2d(6, 16)
    monkeypatch.setattr("sasa.layers.local_self_attention.local_self_attention", record)
    for layer in layers:
        layer(torch.randn(1, 6, 4, 4))
    assert asked == ["reference", "auto"]


def test_compiles_without_a_break(layer: LocalSelfAttention2d) -> None:
    x = torch.randn(2, 6, 8, 9)
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    assert torch.equal(compiled(x), layer(x))


@pytest.mark.parametrize("position", ["relative", "absolute"])
def test_exports(position: str) -> None:
    torch.manual_seed(0)
    layer = LocalSelfAttention2d(6, 16, 3, 2, num_heads=4, position=position).eval()
    x = torch.randn(2, 6, 8, 9)
    file = io.BytesIO()
    torch.export.save(torch.export.export(layer, (x,), strict=True), file)
    file.seek(0)
    torch.testing.assert_close(torch.export.load(file).module()(x), layer(x))


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace.*deprecated", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("relu", [False, True])
def test_a_trace_passes_its_own_check(layer: LocalSelfAttention2d, relu: bool) -> None:
    """With gradients on; `torch.jit.trace` checks itself without."""
    layer.relu = relu
    x = torch.randn(2, 6, 8, 9)
    traced = torch.jit.trace(layer, x)
    assert torch.equal(traced(x), layer(x))
    gradients = [torch.autograd.grad(run(x).sum(), layer.parameters()) for run in (traced, layer)]
    torch.testing.assert_close(*gradients)


def test_a_network_with_it_scripts(layer: LocalSelfAttention2d) -> None:
    model = nn.Sequential(layer, nn.ReLU())
    x = torch.randn(2, 6, 8, 9)
    with pytest.warns(FutureWarning, match="`torch.jit.script` is deprecated"):
        scripted = torch.jit.script(model)
    assert torch.equal(scripted(x), model(x))


def test_repr_says_what_was_built() -> None:
    text = repr(LocalSelfAttention2d(6, 16, (3, 5), 2, num_heads=4, content=False))
    for part in ("6, 16", "kernel_size=(3, 5)", "stride=2", "num_heads=4", "content=False"):
        assert part in text
