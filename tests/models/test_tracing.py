"""FX, TorchScript, torch.compile and torch.export of whole networks."""

from __future__ import annotations

import pytest
import torch
from timm.models import create_feature_extractor
from torch.export import Dim

import sasa

from . import networks

EACH_VARIANT = pytest.mark.parametrize("name", networks.VARIANTS)


@EACH_VARIANT
def test_fx_graph_is_bit_equal(name: str) -> None:
    model = networks.narrow(name, num_classes=5)
    graph = create_feature_extractor(model, ["fc"])
    x = networks.images(1, 3, 64, 64)
    assert torch.equal(graph(x)["fc"], model(x))


@EACH_VARIANT
def test_fx_graph_trains_every_parameter(name: str) -> None:
    model = networks.narrow(name, num_classes=5).train()
    graph = create_feature_extractor(model, ["fc"])
    torch.nn.functional.cross_entropy(
        graph(networks.images(2, 3, 64, 64))["fc"], torch.tensor([0, 4])
    ).backward()
    assert len(list(graph.parameters())) == len(list(model.parameters()))
    assert all(p.grad is not None and p.grad.any() for p in graph.parameters())


@EACH_VARIANT
def test_scripts(name: str) -> None:
    model = networks.narrow(name, num_classes=5)
    with pytest.warns(FutureWarning, match="`torch.jit.script` is deprecated"):
        scripted = torch.jit.script(model)
    x = networks.images(1, 3, 64, 64)
    assert torch.equal(scripted(x), model(x))


def test_compiles_without_a_break() -> None:
    model = networks.tiny()
    x = networks.images(2, 3, 28, 28)
    assert torch.equal(torch.compile(model, fullgraph=True, backend="eager")(x), model(x))


@pytest.mark.parametrize(("fused", "grad"), [(False, False), (False, True), (True, False)])
def test_exports_for_any_batch_and_size(fused: bool, grad: bool) -> None:
    """By the sizes' names, which asks that maps of both branches of a block are equal whatever the size.

    With gradients the layers call another op.
    """
    model = networks.tiny().eval()
    model = sasa.fuse(model) if fused else model
    dims = {0: Dim("batch"), 2: Dim("height", min=65), 3: Dim("width", min=65)}
    with torch.set_grad_enabled(grad):
        program = torch.export.export(model, (networks.images(2, 3, 96, 100),), dynamic_shapes=(dims,))
        x = networks.images(3, 3, 121, 77)
        torch.testing.assert_close(program.module()(x), model(x))


def test_exports() -> None:
    model = networks.tiny()
    x = networks.images(2, 3, 32, 32)
    torch.testing.assert_close(torch.export.export(model, (x,)).module()(x), model(x))
