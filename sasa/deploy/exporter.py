"""Export of a network for other runtimes, checked against the network itself."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from sasa.deploy import onnx_files, program_files
from sasa.errors import require
from sasa.layers import fuse
from sasa.ops.standard_operations import standard_operations

FORMATS = ("onnx", "pt2", "aoti")

# With two tiles of attention per side in a network of the given stride, torch.export keeps their number free.
_TILES = 5
_STRIDE, _DETECTOR_STRIDE = 32, 128
# What rounding may change, relative to the largest output; the ONNX file of sasa_resnet50 needs 1e-6.
_TOLERANCE = 1e-3


def export(
    model: nn.Module,
    path: str | Path,
    *,
    to: str = "onnx",
    input_size: tuple[int, int, int] = (3, 224, 224),
    fixed_size: bool = False,
    opset: int | None = None,
    external_data: bool = False,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Write a network to a file for another runtime, and check the file against the network.

    The network is fused first (`sasa.fuse`). The file has one input, "images" of (B, C, H, W), and the batch
    size, height and width are free. A classifier has one output, "output". A detector is exported without its
    pre- and postprocessing (`sasa.detection.RawOutputs`): its outputs are "cls_logits" and "bbox_regression",
    of which `sasa.detection.detections_from` makes detections.

    Args:
        model: A classifier, a detector of `sasa.detection`, or any network that maps images to one tensor, in
            evaluation mode.
        path: The file, which is replaced if it exists. Folders above it are created.
        to: The format:
            - "onnx": ONNX in standard operations only, for ONNX Runtime and others;
            - "pt2": a program of torch.export with the ops of sasa, for Python with sasa installed;
            - "aoti": an AOTInductor package with the kernels of sasa, compiled for this machine. The file
              must end in .pt2.
        input_size: (C, H, W) of the images that the network was made for.
        fixed_size: Whether height and width are fixed to those of input_size, as some networks need, such as
            timm's ViT.
        opset: ONNX's operator set; None is torch's default. For "onnx" only.
        external_data: Whether the weights go to a file of their own, PATH.data, which ONNX needs for more
            than 2 GB. For "onnx" only.
        metadata: Texts by name that are written into the file.

    Returns:
        The path.

    Raises:
        ModuleNotFoundError: A package of the extra "export" is missing.
        ValueError: An argument is invalid, the network is in training mode or cannot be exported with free
            sizes, or the file does not compute what the network does. Nothing is written then.
    """
    path = Path(path)
    require(to in FORMATS, "to", f"one of {', '.join(FORMATS)}", to)
    require(len(input_size) == 3 and min(input_size) > 0, "input_size", "positive (C, H, W)", input_size)
    require(opset is None or to == "onnx", "opset", f"None for {to}", opset)
    require(not external_data or to == "onnx", "external_data", f"False for {to}", external_data)
    require(to != "aoti" or path.suffix == ".pt2", "path", "a file that ends in .pt2 for aoti", str(path))
    if to == "onnx":
        onnx_files.require_packages()
    fused = fuse(model)
    outputs: Sequence[str] = ["output"]
    stride = _STRIDE
    if hasattr(model, "postprocess_detections"):  # before torchvision, which a classifier does not need
        from sasa.detection import RawOutputs, RetinaNet

        if not isinstance(fused, RetinaNet):
            raise ValueError(f"model: expected a detector of sasa.detection, got {type(model).__name__}")
        fused, outputs, stride = RawOutputs(fused), ["cls_logits", "bbox_regression"], _DETECTOR_STRIDE
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as folder:
        file = Path(folder, path.name)
        with standard_operations() if to == "onnx" else nullcontext():
            program = _traced(fused, input_size, fixed_size, _TILES * stride)
            if to == "onnx":
                onnx_files.write(
                    program, file, outputs, metadata or {}, opset=opset, external_data=external_data
                )
                run = onnx_files.load(file)
            elif to == "pt2":
                program_files.write_program(program, file, metadata or {})
                run = program_files.load_program(file)
            else:
                program_files.write_package(program, file, metadata or {})
                run = program_files.load_package(file)
        _check(fused, run, input_size, fixed_size, path)
        for part in Path(folder).iterdir():
            os.replace(part, path.with_name(part.name))
    return path


def _traced(
    model: nn.Module, input_size: tuple[int, int, int], fixed_size: bool, smallest: int
) -> ExportedProgram:
    channels, height, width = input_size
    # Different sizes, so that torch.export does not take them for one.
    height, width = (height, width) if fixed_size else (max(height, smallest), max(width, smallest) + 32)
    parameter = next(model.parameters(), torch.empty(0))
    images = torch.zeros(2, channels, height, width, dtype=parameter.dtype, device=parameter.device)
    sizes: dict[int, object] = {0: Dim.DYNAMIC}
    if not fixed_size:
        sizes |= {2: Dim.DYNAMIC, 3: Dim.DYNAMIC}
    try:
        return torch.export.export(model, (images,), dynamic_shapes=(sizes,), strict=False)
    except Exception as error:  # any error of the network, or of torch, which has many types for one cause
        raise _refused(error, fixed_size) from error


def _refused(error: Exception, fixed_size: bool) -> ValueError:
    """The error for a network that cannot be traced, or does not run, with the sizes that have to be free."""
    free = "a free batch size" if fixed_size else "free batch size, height and width"
    advice = "" if fixed_size else "; if it takes one size only, fixed_size=True fixes height and width"
    return ValueError(
        f"model: expected a network that can be exported with {free}, got {type(error).__name__}: "
        f"{_first_line(error)}{advice}"
    )


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else "no text"


@torch.inference_mode()
def _check(
    model: nn.Module,
    run: Callable[[Tensor], Sequence[Tensor]],
    input_size: tuple[int, int, int],
    fixed_size: bool,
    path: Path,
) -> None:
    """Raise ValueError unless a file computes what the network does, at other sizes than the traced ones."""
    channels, height, width = input_size
    parameter = next(model.parameters(), torch.empty(0))
    generator = torch.Generator().manual_seed(0)
    for batch, rows, cols in (
        (1, height, width),
        (3, height, width) if fixed_size else (3, height + 32, width),
    ):
        images = torch.rand(batch, channels, rows, cols, generator=generator)
        images = images.to(parameter.device, parameter.dtype)
        try:
            output = model(images)
        except Exception as error:  # any error of the network
            raise _refused(error, fixed_size) from error
        expected = [output] if isinstance(output, Tensor) else list(output)
        try:
            outputs = run(images)
        except Exception as error:  # any error of a runtime
            raise ValueError(
                f"model: expected a network that runs from {path.name} on images of {tuple(images.shape)}, "
                f"got {type(error).__name__}: {_first_line(error)}; fixed_size=True makes a file for "
                f"images of {height} × {width}"
            ) from error
        for want, got in zip(expected, outputs, strict=True):
            scale = want.abs().max().clamp(min=torch.finfo(want.dtype).tiny)
            if want.shape != got.shape or not (want - got).abs().max() <= _TOLERANCE * scale:
                raise ValueError(
                    f"model: expected a network that computes the same in {path.name}, got another output "
                    f"for images of {tuple(images.shape)}; it may depend on values that are constants there"
                )
