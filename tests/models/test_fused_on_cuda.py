"""What a fused network runs on a CUDA device, told by fake tensors: no GPU is needed.

The kernels take no part; that they are right is the op's tests' matter.
"""

from __future__ import annotations

from collections import Counter
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import sasa
from sasa import LocalSelfAttention2d
from sasa.layers import FusedAttentionStem

needs_triton = pytest.mark.skipif(
    find_spec("triton") is None, reason="triton is not installed; torch brings it on Linux"
)
COPIES = {"aten::clone", "aten::copy_", "aten::contiguous", "aten::_to_copy"}


class Calls(TorchDispatchMode):
    """Every op that is called, with its tensors and its other arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, list[Tensor], list[Any]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        leaves = tree_leaves((args, kwargs or {}))
        tensors = [x for x in leaves if isinstance(x, Tensor)]
        others = [x for x in leaves if not isinstance(x, Tensor)]
        self.calls.append((func.name().partition(".")[0], tensors, others))
        return func(*args, **(kwargs or {}))


def on_cuda(model: nn.Module) -> nn.Module:
    """The model with parameters and buffers that are said to be on a CUDA device."""
    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            for name, x in tensors.items():
                if x is not None:
                    tensors[name] = torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device="cuda")
    return model


def calls(model: nn.Module, dtype: torch.dtype, layout: torch.memory_format) -> list[Any]:
    """Of the fused model in inference."""
    fused = sasa.fuse(model.eval()).to(dtype).to(memory_format=layout)
    with FakeTensorMode(), torch.no_grad():
        fused = on_cuda(fused)
        x = torch.empty(2, 3, 64, 64, device="cuda", dtype=dtype).to(memory_format=layout)
        with Calls() as called:
            out = fused(x)
    assert (out.device.type, out.dtype) == ("cuda", dtype)
    return called.calls


LAYERS: dict[str, dict[str, Any]] = {
    "plain": {},
    "pooled, with bias": {"stride": 2, "bias": True},
    "no keys": {"content": False},
    "sinusoids": {"position": "absolute"},
}


@needs_triton
@pytest.mark.parametrize("name", ["sasa_resnet26", "sasa_resnet26_convstem"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_network(name: str, dtype: torch.dtype, layout: torch.memory_format) -> None:
    """One kernel for each attention, its projections a convolution, and no map or weight is rearranged."""
    model = sasa.create_model(name)
    layers = [m for m in model.modules() if isinstance(m, LocalSelfAttention2d)]
    stems = [m for m in model.modules() if isinstance(m, sasa.AttentionStem)]
    stem_parts = [m for stem in stems for m in stem.modules() if isinstance(m, nn.Conv2d)]
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    called = calls(model, dtype, layout)
    count = Counter(op for op, _, _ in called)
    assert count["sasa::local_attention"] == len(layers)
    assert count["sasa::block_attention"] == len(stems) == (name == "sasa_resnet26")
    assert count["aten::convolution"] == len(convolutions) - len(stem_parts)
    assert not {op for op in count if "batch_norm" in op}
    for op in count:
        if op.startswith("sasa::"):
            assert torch._C._dispatch_has_kernel_for_dispatch_key(op, "CUDA"), op
    for op, tensors, _ in called:
        if op in COPIES:
            # The ops take embeddings and the stem's arguments, small ones, in float32.
            assert (op, dtype.itemsize) == ("aten::_to_copy", 2)
            assert all(x.dtype == dtype and x.ndim < 4 and x.numel() <= 4096 for x in tensors) or (
                [x.shape for x in tensors] == [(4, 3, 16, 16)]
            )


@needs_triton
@pytest.mark.parametrize("name", LAYERS)
def test_attention_norm_and_relu(name: str) -> None:
    """The ReLU is in the kernel, the norm in the projection."""
    layer = LocalSelfAttention2d(3, 16, 3, **LAYERS[name])
    model = nn.Sequential(layer, nn.BatchNorm2d(16), nn.ReLU())
    called = calls(model, torch.bfloat16, torch.channels_last)
    ops = [op for op, _, _ in called if not op.startswith("prim::")]
    assert ops.count("aten::convolution") == ops.count("sasa::local_attention") == 1
    assert not {op for op in ops if "relu" in op or "batch_norm" in op}
    (relu,) = (next(x for x in others if isinstance(x, bool)) for op, _, others in called if "sasa" in op)
    assert relu is True


@needs_triton
@pytest.mark.parametrize("values", ["spatially_aware", "pointwise", "convolution"])
@pytest.mark.parametrize("pool", [True, False])
def test_stem(values: str, pool: bool) -> None:
    """Values of a convolution are plain PyTorch, as on a CPU."""
    stem = sasa.AttentionStem(values=values, max_pool=pool)
    assert type(sasa.fuse(stem.eval())) is FusedAttentionStem
    count = Counter(op for op, _, _ in calls(stem, torch.float32, torch.channels_last))
    assert count["sasa::block_attention"] == (values != "convolution")
    if values != "convolution":
        assert not COPIES & set(count)
