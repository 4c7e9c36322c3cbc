"""`AttentionStem` is the equation of the paper's App. A.1: compared with loops, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from sasa import AttentionStem

from . import loops

VALUES = ("spatially_aware", "convolution", "pointwise")


def build(seed: int = 0, **options: Any) -> AttentionStem:
    """3 → 8 channels in 2 heads, with a batch norm that is not the identity."""
    torch.manual_seed(seed)
    stem = AttentionStem(3, 8, **{"num_heads": 2, "dtype": torch.float64, **options})
    torch.nn.init.normal_(stem.norm.weight)  # negative factors too: the norm comes before the maximum
    torch.nn.init.normal_(stem.norm.bias)
    stem.norm.running_mean.normal_()  # type: ignore[union-attr]
    stem.norm.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    return stem.eval()


def before_the_norm(stem: AttentionStem, x: np.ndarray) -> np.ndarray:
    """Attention inside the blocks of one image in loops, with the stem's own weights."""
    parameters = {name: value.detach().numpy() for name, value in stem.named_parameters()}
    query, key = np.split(parameters["query_key.weight"][:, :, 0, 0], 2)
    weight = parameters["value.weight"]
    if stem.values == "convolution":
        v = loops.convolution_values(weight, x)
    elif stem.values == "pointwise":
        v = loops.project(weight[:, :, 0, 0], x)
    else:
        v_weight = weight.reshape(stem.num_mixtures, stem.out_channels, stem.in_channels)
        row, col, mixture = (parameters[name] for name in ("emb_row", "emb_col", "mixture"))
        v = loops.spatially_aware_values(v_weight, row, col, mixture, x)
    return loops.block_attention(
        loops.project(query, x),
        loops.project(key, x),
        v,
        parameters["rel_row"],
        parameters["rel_col"],
        heads=stem.num_heads,
        block_size=stem.block_size,
    )


def normalized(stem: AttentionStem, x: np.ndarray, mean: np.ndarray, var: np.ndarray) -> np.ndarray:
    gamma, beta = stem.norm.weight.detach().numpy(), stem.norm.bias.detach().numpy()
    factor = gamma / np.sqrt(var + stem.norm.eps)
    return (x - mean[:, None, None]) * factor[:, None, None] + beta[:, None, None]


@pytest.mark.parametrize("values", VALUES)
@pytest.mark.parametrize("block_size", [4, 2, 3])
@pytest.mark.parametrize("size", [(8, 12), (7, 5), (1, 9), (2, 2)], ids=str)
def test_is_the_equation(values: str, block_size: int, size: tuple[int, int]) -> None:
    stem = build(values=values, block_size=block_size, num_mixtures=3)
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    mean, var = stem.norm.running_mean, stem.norm.running_var
    assert mean is not None
    assert var is not None
    maps = [normalized(stem, before_the_norm(stem, image), mean.numpy(), var.numpy()) for image in x.numpy()]
    pooled = np.stack([loops.block_maximum(image, block_size) for image in maps])
    torch.testing.assert_close(stem(x).detach(), torch.from_numpy(pooled), rtol=0, atol=1e-12)
    stem.max_pool = False
    torch.testing.assert_close(stem(x).detach(), torch.from_numpy(np.stack(maps)), rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [(8, 8), (6, 5)], ids=str)
def test_batch_statistics_are_those_of_the_pixels_alone(size: tuple[int, int]) -> None:
    stem = build()
    stem.norm.momentum = 1.0  # the running statistics become those of this batch
    x = torch.randn(2, 3, *size, dtype=torch.float64) + 1
    out = stem.train()(x)
    maps = np.stack([before_the_norm(stem, image) for image in x.numpy()])
    mean, var = maps.mean((0, 2, 3)), maps.var((0, 2, 3))
    assert stem.norm.running_mean is not None
    torch.testing.assert_close(stem.norm.running_mean, torch.from_numpy(mean), rtol=0, atol=1e-12)
    want = [loops.block_maximum(normalized(stem, image, mean, var), 4) for image in maps]
    torch.testing.assert_close(out.detach(), torch.from_numpy(np.stack(want)), rtol=0, atol=1e-11)


def test_value_matrices_are_the_mixture_of_each_position() -> None:
    stem = build(num_mixtures=3, block_size=2)
    got = stem.value_matrices().detach().numpy()
    assert got.shape == (4, 8, 3)
    v_weight = stem.value.weight.detach().numpy().reshape(3, 8, 3)
    rows, cols, nus = (x.detach().numpy() for x in (stem.emb_row, stem.emb_col, stem.mixture))
    for a, b in np.ndindex(2, 2):
        p = loops.softmax(np.array([(rows[a] + cols[b]) @ nu for nu in nus]))
        np.testing.assert_allclose(got[2 * a + b], np.tensordot(p, v_weight, 1), rtol=0, atol=1e-14)


def test_mixing_the_matrices_makes_no_value_map_for_each_of_them() -> None:
    """The largest tensor of a step has no factor num_mixtures."""
    sizes = {}
    for mixtures in (1, 16):
        stem = build(num_mixtures=mixtures)
        with LargestTensor() as largest:
            stem(torch.randn(1, 3, 32, 32, dtype=torch.float64))
        sizes[mixtures] = largest.numel
    assert sizes[16] == sizes[1]


class LargestTensor(torch.utils._python_dispatch.TorchDispatchMode):
    """Watches every tensor that is made."""

    numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor):
            self.numel = max(self.numel, out.numel())
        return out
