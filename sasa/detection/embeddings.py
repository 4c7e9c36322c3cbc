"""What the relative embeddings of pyramid and heads start from."""

from __future__ import annotations

from torch import nn

from sasa.layers import LocalSelfAttention2d

EMBEDDING_STD = 3.0
"""Deviation of the first relative embeddings. The paper has none for them."""


def start_embeddings(module: nn.Module) -> None:
    """Draw the relative embeddings so large that a layer's heads start with few positions of their windows.

    With `LocalSelfAttention2d`'s own, of deviation 1, they start near the windows' means, and layers one
    after the other blur the map.
    """
    for layer in module.modules():
        if isinstance(layer, LocalSelfAttention2d):
            for embedding in (layer.rel_row, layer.rel_col):
                if embedding is not None:
                    nn.init.normal_(embedding, std=EMBEDDING_STD)
