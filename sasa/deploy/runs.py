"""Export of a trained run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sasa.deploy.exporter import FORMATS, export
from sasa.errors import require
from sasa.train import load_detector, load_weights
from sasa.train.weights import BUILT_IN, metadata_texts, read_metadata, weights_path

_SUFFIXES = dict(zip(FORMATS, (".onnx", ".pt2", ".aoti.pt2"), strict=True))


def export_run(run: str | Path, path: str | Path | None = None, *, to: str = "onnx", **options: Any) -> Path:
    """Export a trained network with its metadata, such as class names, mean and standard deviation.

    Args:
        run: The run folder of a classifier or detector, a safetensors file of sasa, or "built-in", the
            classifier that comes with sasa.
        path: The file; None is a file beside the weights, with the ending .onnx, .pt2 or .aoti.pt2.
        to: The format, see `sasa.export`.
        **options: fixed_size, opset and external_data of `sasa.export`.

    Returns:
        The path.

    Raises:
        FileNotFoundError: There is no such run.
        ModuleNotFoundError: A package of the extra "export" is missing.
        ValueError: The weights are not of sasa, or as for `sasa.export`.
    """
    require(to in FORMATS, "to", f"one of {', '.join(FORMATS)}", to)
    if path is None:
        require(run != BUILT_IN, "path", f"a file to export {BUILT_IN} to", path)
        path = weights_path(run).with_suffix(_SUFFIXES[to])
    network: Any
    metadata: Any
    if "backbone" in read_metadata(run):  # a field of DetectorMetadata
        network, metadata = load_detector(run)
        size = (len(metadata.mean), metadata.size, metadata.size)
    else:
        network, metadata = load_weights(run)
        size = tuple(metadata.input_size)
    return export(network, path, to=to, input_size=size, metadata=metadata_texts(metadata), **options)
