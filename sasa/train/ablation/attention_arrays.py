"""Where trained networks look, kept as arrays for the report, which runs no network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sasa.data import ImageDataset
from sasa.models import attention_layers, position_attention_maps, query_attention_maps
from sasa.train.atomic import replacing
from sasa.train.inputs import first_image_per_class
from sasa.train.weights import load_weights

ATTENTION = "attention.npz"
_IMAGES, _QUERY = 3, (0.5, 0.5)


def save_attention(folder: Path, data: ImageDataset) -> None:
    """Write attention.npz into the folder of a finished run of a network with attention.

    It holds pictures (3, H, W) or (3, H, W, 3) in [0, 1], of the first three classes, their captions, the
    query (row and column as parts of height and width), and of the last layer of each part of the network
    query/LAYER (3, N, h, w), see `query_attention_maps`, and position/LAYER (N, kh, kw), see
    `position_attention_maps`.

    Args:
        folder: Of the run.
        data: The test images, without a transform.
    """
    import numpy as np

    network, metadata = load_weights(folder)
    last = {name.partition(".")[0]: name for name in attention_layers(network)}.values()
    images, pictures, captions = first_image_per_class(metadata, data, _IMAGES)
    views = query_attention_maps(network, images, query=_QUERY, layers=list(last))
    relative = position_attention_maps(network, images)
    arrays: dict[str, Any] = {
        "pictures": pictures,
        "captions": np.array(captions),
        "query": np.array(_QUERY),
        **{f"query/{name}": view.numpy() for name, view in views.items()},
        **{f"position/{name}": relative[name].numpy() for name in last if name in relative},
    }
    with replacing(folder / ATTENTION) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)
