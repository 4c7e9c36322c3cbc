"""Attention maps of the layers of a network."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from sasa.errors import did_you_mean, require
from sasa.layers import AttentionStem, FusedAttentionStem, LocalSelfAttention2d

_AttentionLayer = AttentionStem | FusedAttentionStem | LocalSelfAttention2d


def attention_layers(model: nn.Module) -> dict[str, _AttentionLayer]:
    """The attention layers of any network by name, in the order of its modules."""
    return {name: module for name, module in model.named_modules() if isinstance(module, _AttentionLayer)}


@torch.no_grad()
def query_attention_maps(
    model: nn.Module,
    images: Tensor,
    *,
    query: tuple[float, float] = (0.5, 0.5),
    layers: Sequence[str] | None = None,
) -> dict[str, Tensor]:
    """The attention weights of one query over the input map of each layer.

    Args:
        model: Any network with attention layers of sasa. It runs in its current mode, so call ``eval()``
            first.
        images: (B, C, H, W), as for the network.
        query: Row and column of the query as fractions of the image's height and width, in [0, 1].
        layers: Names of `attention_layers`; None takes all.

    Returns:
        For each layer (B, num_heads, h, w) over its input map of h × w pixels; the weights of each head sum
        to 1. For a layer that pools, the mean over the 2 × 2 queries of one output pixel.

    Raises:
        ValueError: The model has no attention layer, a name is not that of one, or the query is outside of
            the image.
    """
    known = attention_layers(model)
    if not known:
        raise ValueError(f"model: expected a network with attention layers, got {type(model).__name__}")
    chosen = list(known) if layers is None else list(layers)
    for name in chosen:
        if name not in known:
            hint = did_you_mean(name, known, cutoff=0)
            raise ValueError(f"layers: expected names of attention layers, got {name!r}{hint}")
    in_image = all(0 <= fraction <= 1 for fraction in query)
    require(in_image, "query", "row and column in [0, 1]", query)

    inputs = _layer_inputs(model, images, {name: known[name] for name in chosen})
    return {name: _query_attention_map(known[name], inputs[name], query) for name in chosen}


@torch.no_grad()
def position_attention_maps(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Attention by the relative embeddings alone: softmax(q·r), averaged over pixels and images.

    The k × k window is complete at every pixel, also at the border of the map.

    Args:
        model: Any network with attention layers of sasa. It runs in its current mode, so call ``eval()``
            first.
        images: (B, C, H, W), as for the network.

    Returns:
        (num_heads, kh, kw) for each layer with relative embeddings except the stem; the weights of each head
        sum to 1.
    """
    layers = {
        name: layer
        for name, layer in attention_layers(model).items()
        if isinstance(layer, LocalSelfAttention2d) and layer.position == "relative"
    }
    inputs = _layer_inputs(model, images, layers)
    return {name: _position_attention_map(layer, inputs[name]) for name, layer in layers.items()}


def _position_attention_map(layer: LocalSelfAttention2d, x: Tensor) -> Tensor:
    assert layer.rel_row is not None
    assert layer.rel_col is not None
    queries = layer.project(x)[0].unflatten(1, (layer.num_heads, 2, -1))  # (B, N, 2, D/2, H, W)
    rows = torch.einsum("bndhw,nad->bnhwa", queries[:, :, 0], layer.rel_row)
    cols = torch.einsum("bndhw,nad->bnhwa", queries[:, :, 1], layer.rel_col)
    # The exponential of a sum is a product, and so is the softmax.
    maps = (layer.scale * rows).softmax(-1)[..., :, None] * (layer.scale * cols).softmax(-1)[..., None, :]
    return maps.mean((0, 2, 3))


def _layer_inputs(model: nn.Module, images: Tensor, layers: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """The input of each layer in a forward pass of the model."""
    inputs: dict[str, Tensor] = {}

    def record_input(name: str, layer: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def hook(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            inputs[name] = args[0]

        return layer.register_forward_pre_hook(hook)

    handles = [record_input(name, layer) for name, layer in layers.items()]
    try:
        model(images)
    finally:
        for handle in handles:
            handle.remove()
    return inputs


def _query_attention_map(layer: _AttentionLayer, x: Tensor, query: tuple[float, float]) -> Tensor:
    """The weights of one query on the input map of its layer, (B, N, h, w)."""
    height, width = x.shape[2:]
    row, col = (
        min(int(fraction * size), size - 1) for fraction, size in zip(query, (height, width), strict=True)
    )
    result = x.new_zeros(x.shape[0], layer.num_heads, height, width)
    if isinstance(layer, (AttentionStem, FusedAttentionStem)):
        weights = layer.attention_maps(x)[:, :, row, col]  # (B, N, block_size, block_size)
        top, left = row - row % layer.block_size, col - col % layer.block_size
        block = result[:, :, top : top + layer.block_size, left : left + layer.block_size]
        block += weights[..., : block.shape[2], : block.shape[3]]
        return result
    maps = layer.attention_maps(x, per_query=True)
    top, left = row - row % layer.stride, col - col % layer.stride
    rows = range(top, min(top + layer.stride, height))
    cols = range(left, min(left + layer.stride, width))
    (kh, kw), (dh, dw) = layer.kernel_size, layer.dilation
    for r, c, a, b in itertools.product(rows, cols, range(kh), range(kw)):
        i, j = r + (a - kh // 2) * dh, c + (b - kw // 2) * dw
        if 0 <= i < height and 0 <= j < width:
            result[:, :, i, j] += maps[:, :, r, c, a, b] / (len(rows) * len(cols))
    return result
