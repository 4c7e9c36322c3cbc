"""A classifier in an ONNX file, used as a network."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from sasa.deploy import onnx_files
from sasa.train import WeightsMetadata
from sasa.train.weights import parse_metadata


class OnnxNetwork(nn.Module):
    """Runs an ONNX file in ONNX Runtime on the CPU.

    Args:
        path: A file with one input and one output.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self._run = onnx_files.load(path)

    def forward(self, images: Tensor) -> Tensor:
        (output,) = self._run(images)
        return output


def load_onnx(path: str | Path) -> tuple[OnnxNetwork, WeightsMetadata]:
    """Load a classifier from an ONNX file that `sasa export` wrote.

    Args:
        path: The file.

    Returns:
        The network, which runs in ONNX Runtime on the CPU, and its metadata.

    Raises:
        FileNotFoundError: There is no such file.
        ModuleNotFoundError: onnxruntime is not installed.
        ValueError: It is no ONNX file, or was not written by `sasa export`.
    """
    path = Path(path)
    network = OnnxNetwork(path)
    return network, parse_metadata(onnx_files.metadata(path), WeightsMetadata, path)
