"""Export of a trained run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sasa.deploy.exporter import FORMATS, export
from sasa.errors import require
from sasa.train import load_weights
from sasa.train.weights import BUILT_IN, metadata_texts, weights_path

_SUFFIXES = dict(zip(FORMATS, (".onnx", ".pt2", ".aoti.pt2"), strict=True))


def export_run(run: str | Path, path: str | Path | None = None, *, to: str = "onnx", **options: Any) -> Path:
    """Export a trained classifier with its metadata, such as class names, mean and standard deviation.

    Args:
        run: A run folder, a safetensors file of sasa, or "built-in", the classifier that comes with sasa.
        path: The file; None is a file beside the weights, with the ending .onnx, .pt2 or .aoti.pt2.
        to: The format, see `sasa.export`.
        **options: fixed_size, opset and external_data of `sasa.export`.

    Returns:
        The path.

    Raises:
        FileNotFoundError: There is no such run.
        ModuleNotFoundError: A package of the extra "export" is missing.
        ValueError: The weights are not those of a classifier, or as for `sasa.export`.
    """
    require(to in FORMATS, "to", f"one of {', '.join(FORMATS)}", to)
    if path is None:
        require(run != BUILT_IN, "path", f"a file to export {BUILT_IN} to", path)
        path = weights_path(run).with_suffix(_SUFFIXES[to])
    network, metadata = load_weights(run)
    channels, height, width = metadata.input_size
    return export(
        network,
        path,
        to=to,
        input_size=(channels, height, width),
        metadata=metadata_texts(metadata),
        **options,
    )
