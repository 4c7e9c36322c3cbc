"""Attention maps of trained networks, saved as arrays for the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sasa.data import ImageDataset
from sasa.models import attention_layers, position_attention_maps, query_attention_maps
from sasa.train.atomic import replacing
from sasa.train.classification.inputs import first_image_per_class
from sasa.train.classification.weights import load_weights

ATTENTION = "attention.npz"
_IMAGES, _QUERY = 3, (0.5, 0.5)


def save_attention(folder: Path, data: ImageDataset) -> None:
    """Write attention.npz into the folder of a finished run of a network with attention.

    The arrays are pictures (3, H, W) or (3, H, W, 3) in [0, 1], one for each of the first three classes;
    their captions; the query, row and column relative to height and width; and for the last attention layer
    of the stem and each stage query/LAYER (3, N, h, w), see `query_attention_maps`, and position/LAYER (N,
    kh, kw), see `position_attention_maps`.

    Args:
        folder: The run folder.
        data: The test images, without a transform.
    """
    import numpy as np

    network, metadata = load_weights(folder)
    last = {name.partition(".")[0]: name for name in attention_layers(network)}.values()
    images, pictures, captions = first_image_per_class(metadata, data, _IMAGES)
    query_maps = query_attention_maps(network, images, query=_QUERY, layers=list(last))
    position_maps = position_attention_maps(network, images)
    arrays: dict[str, Any] = {
        "pictures": pictures,
        "captions": np.array(captions),
        "query": np.array(_QUERY),
        **{f"query/{name}": maps.numpy() for name, maps in query_maps.items()},
        **{f"position/{name}": position_maps[name].numpy() for name in last if name in position_maps},
    }
    with replacing(folder / ATTENTION) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)
