"""ONNX files, written by torch's exporter and run by ONNX Runtime."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.export import ExportedProgram

INPUT = "images"


def write(
    program: ExportedProgram,
    path: Path,
    outputs: Sequence[str],
    metadata: Mapping[str, str],
    *,
    opset: int | None,
    external_data: bool,
) -> None:
    """Write a program of one input.

    Args:
        program: The program, in operations of torch only.
        path: The file.
        outputs: The names of its outputs.
        metadata: Texts by name, which become ONNX's metadata_props.
        opset: The operator set; None is torch's default.
        external_data: Whether the weights go to PATH.data.

    Raises:
        ValueError: An operation has no form in ONNX.
    """
    names = {0: "batch", 2: "height", 3: "width"}
    (images,) = program.graph_signature.user_inputs
    shape = next(node for node in program.graph.nodes if node.name == images).meta["val"].shape
    free = {axis: name for axis, name in names.items() if isinstance(shape[axis], torch.SymInt)}
    try:
        with _quiet():
            exported = torch.onnx.export(
                program,
                input_names=[INPUT],
                output_names=list(outputs),
                dynamic_shapes=(free,),
                opset_version=opset,
                dynamo=True,
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise ValueError(f"model: expected operations that ONNX has, got an error: {reason}") from error
    assert exported is not None
    model = exported.model
    for node in model.graph.all_nodes():
        if node.domain not in ("", "ai.onnx"):
            raise ValueError(
                f"model: expected standard operations of ONNX, got {node.domain}::{node.op_type}"
            )
        # The exporter's notes, which name files of this machine.
        node.metadata_props.clear()
    model.metadata_props.update(metadata)
    exported.save(path, external_data=external_data)


def load(path: str | Path) -> Callable[[Tensor], list[Tensor]]:
    """The function of a file, from images (B, C, H, W) to its outputs.

    Raises:
        ModuleNotFoundError: onnxruntime is not installed.
    """
    session = open_session(path)
    (images,) = session.get_inputs()

    def run(x: Tensor) -> list[Tensor]:
        outputs = session.run(None, {images.name: x.numpy(force=True)})
        return [torch.from_numpy(np.ascontiguousarray(output)).to(x.device) for output in outputs]

    return run


def metadata(path: str | Path) -> dict[str, str]:
    """The texts by name that `write` wrote into a file; ValueError if it is no ONNX file."""
    texts: dict[str, str] = open_session(path).get_modelmeta().custom_metadata_map
    return texts


def open_session(path: str | Path) -> Any:
    """An onnxruntime.InferenceSession on the CPU, with torch's number of threads.

    Raises:
        FileNotFoundError: There is no such file.
        ModuleNotFoundError: onnxruntime is not installed.
        ValueError: It is no ONNX file.
    """
    _require_package("onnxruntime")
    import onnxruntime

    if not Path(path).is_file():
        raise FileNotFoundError(f"path: expected an ONNX file, got {path}, which does not exist")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no common base class of their own
        raise ValueError(f"{path}: expected an ONNX file, got an error: {error}") from error


def require_packages() -> None:
    """Raise ModuleNotFoundError unless all packages for writing and running files are installed."""
    for name in ("onnx", "onnxscript", "onnxruntime"):
        _require_package(name)


def _require_package(name: str) -> None:
    if find_spec(name) is None:
        raise ModuleNotFoundError(
            f'ONNX needs the package {name!r}: pip install ".[export]" in a clone of sasa', name=name
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's notices, which concern its own parts."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
