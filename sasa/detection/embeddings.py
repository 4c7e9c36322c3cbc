"""Initial values of the relative embeddings in FPN and heads."""

from __future__ import annotations

from torch import nn

from sasa.layers import LocalSelfAttention2d

EMBEDDING_STD = 3.0
"""Standard deviation of the initial relative embeddings, which the paper does not give."""


def init_embeddings(module: nn.Module) -> None:
    """Initialize the relative embeddings so that each head attends to few positions of its window.

    With a standard deviation of 1, as in `LocalSelfAttention2d`, each head starts near the mean over its
    window, and several layers blur the map.
    """
    for layer in module.modules():
        if isinstance(layer, LocalSelfAttention2d):
            for embedding in (layer.rel_row, layer.rel_col):
                if embedding is not None:
                    nn.init.normal_(embedding, std=EMBEDDING_STD)
