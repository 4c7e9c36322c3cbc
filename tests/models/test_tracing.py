"""FX, TorchScript, torch.compile and torch.export of whole networks."""

from __future__ import annotations

import pytest
import torch
from timm.models import create_feature_extractor
from torch.export import Dim

import sasa
from sasa.ops import cpu_extension

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


@pytest.mark.parametrize("fused", [False, True])
def test_exports_for_any_batch_and_size(fused: bool) -> None:
    """By the sizes' names, which asks that maps of both branches of a block are equal whatever the size."""
    model = networks.tiny().eval()
    model = sasa.fuse(model) if fused else model
    dims = {0: Dim("batch"), 2: Dim("height", min=65), 3: Dim("width", min=65)}
    program = torch.export.export(model, (networks.images(2, 3, 96, 100),), dynamic_shapes=(dims,))
    x = networks.images(3, 3, 121, 77)
    torch.testing.assert_close(program.module()(x), model(x))


@pytest.mark.skipif(not cpu_extension.is_available(), reason="the CPU kernels are not built")
@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("fused", [False, True])
def test_what_is_exported_does_not_depend_on_the_gradient_mode(fused: bool, strict: bool) -> None:
    model = networks.tiny(stage_types=("conv", "conv", "conv", "attention")).eval()
    model = sasa.fuse(model) if fused else model
    called = []
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            program = torch.export.export(model, (networks.images(1, 3, 32, 32),), strict=strict)
        called.append([str(node.target) for node in program.graph.nodes if node.op == "call_function"])
    assert called[0] == called[1]
    assert ("sasa.local_self_attention.default" in called[0]) == fused
    assert ("sasa.local_attention.default" in called[0]) != fused
    assert "sasa.block_attention.default" in called[0]


def test_exports() -> None:
    model = networks.tiny()
    x = networks.images(2, 3, 32, 32)
    torch.testing.assert_close(torch.export.export(model, (x,)).module()(x), model(x))


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace.*deprecated", "ignore::torch.jit.TracerWarning")
@EACH_VARIANT
def test_a_trace_passes_its_own_check(name: str) -> None:
    """With gradients on; `torch.jit.trace` checks itself without."""
    model = networks.narrow(name, num_classes=5)
    x = networks.images(1, 3, 64, 64)
    assert torch.equal(torch.jit.trace(model, x)(x), model(x))
