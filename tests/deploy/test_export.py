"""Networks in files of other runtimes, run in processes of their own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import timm
import torch
from torch import Tensor, nn

import sasa
from sasa.deploy import export_run, load_onnx, onnx_files, program_files
from sasa.detection import RawOutputs, detections_from
from sasa.layers import AttentionStem, LocalSelfAttention2d
from sasa.train import DetectorMetadata, save_weights

from ..models import networks

STAGES = ("conv", "conv", "conv", "attention")
SHAPES = [(1, 3, 64, 64), (2, 3, 33, 100), (5, 3, 32, 32)]

# A program for each format. ONNX Runtime needs neither torch nor sasa.
RUN = {
    "onnx": """
import sys, numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1])
arrays = numpy.load(sys.argv[2])
numpy.savez(sys.argv[3], **{name: session.run(None, {"images": arrays[name]})[0] for name in arrays})
assert "torch" not in sys.modules
""",
    "pt2": """
import sys, numpy, torch, sasa
model = torch.export.load(sys.argv[1]).module()
arrays = numpy.load(sys.argv[2])
numpy.savez(sys.argv[3], **{name: model(torch.from_numpy(arrays[name])).numpy() for name in arrays})
""",
    "aoti": """
import sys, numpy, torch, sasa
model = torch._inductor.aoti_load_package(sys.argv[1])
arrays = numpy.load(sys.argv[2])
numpy.savez(sys.argv[3], **{name: model(torch.from_numpy(arrays[name])).numpy() for name in arrays})
""",
}


def small(**options: object) -> nn.Module:
    """Every kind of layer that has ops of sasa, without the size of a network."""
    torch.manual_seed(0)
    model = nn.Sequential(
        AttentionStem(3, 8, num_heads=2),
        nn.BatchNorm2d(8),
        LocalSelfAttention2d(8, 16, 5, stride=2, num_heads=2, content_gain=True, dw_kernel_size=3),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        LocalSelfAttention2d(16, 16, 3, dilation=2, num_heads=4, content=False),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    networks.randomize(model)
    return model.eval()


def outputs_of_a_new_process(path: Path, to: str, images: list[Tensor]) -> list[Tensor]:
    inputs, outputs = path.with_name("in.npz"), path.with_name("out.npz")
    np.savez(inputs, *(x.numpy() for x in images))
    subprocess.run([sys.executable, "-c", RUN[to], str(path), str(inputs), str(outputs)], check=True)
    arrays = np.load(outputs)
    return [torch.from_numpy(arrays[name]) for name in sorted(arrays)]


@pytest.mark.parametrize("to", ["onnx", "pt2", "aoti"])
def test_the_same_outputs_in_another_process(tmp_path: Path, to: str) -> None:
    model = small()
    path = sasa.export(model, tmp_path / "model.pt2", to=to, input_size=(3, 48, 48))
    images = [networks.images(*shape) for shape in SHAPES]
    for x, output in zip(images, outputs_of_a_new_process(path, to, images), strict=True):
        torch.testing.assert_close(output, model(x).detach(), rtol=0, atol=1e-5)


def test_a_whole_network_in_onnx(tmp_path: Path) -> None:
    model = networks.tiny()
    networks.randomize(model)
    path = sasa.export(model, tmp_path / "new" / "model.onnx", input_size=(3, 64, 64))
    images = [networks.images(*shape) for shape in SHAPES]
    for x, output in zip(images, outputs_of_a_new_process(path, "onnx", images), strict=True):
        torch.testing.assert_close(output, model(x).detach(), rtol=1e-4, atol=1e-4)
    written = onnx.load(path)
    (inputs,) = written.graph.input
    assert [dim.dim_param or dim.dim_value for dim in inputs.type.tensor_type.shape.dim] == [
        *("batch", 3, "height", "width")
    ]
    assert {opset.domain for opset in written.opset_import} == {""}
    assert str(Path.cwd()).encode() not in path.read_bytes(), "no path of this machine"
    assert {file.name for file in path.parent.iterdir()} == {"model.onnx", "in.npz", "out.npz"}


def test_options_of_onnx(tmp_path: Path) -> None:
    model = nn.Sequential(LocalSelfAttention2d(3, 4, 3, num_heads=2)).eval()
    path = sasa.export(
        model, tmp_path / "m.onnx", input_size=(3, 8, 8), opset=19, external_data=True, metadata={"a": "b"}
    )
    written = onnx.load(path)
    assert written.opset_import[0].version == 19
    assert {prop.key: prop.value for prop in written.metadata_props} == {"a": "b"}
    assert (tmp_path / "m.onnx.data").stat().st_size > 0
    x = networks.images(2, 3, 8, 8)
    (output,) = outputs_of_a_new_process(path, "onnx", [x])
    torch.testing.assert_close(output, model(x).detach(), rtol=0, atol=1e-5)


def test_metadata_of_programs(tmp_path: Path) -> None:
    model = nn.Sequential(LocalSelfAttention2d(3, 4, 3, num_heads=2)).eval()
    path = sasa.export(model, tmp_path / "m.pt2", to="pt2", input_size=(3, 8, 8), metadata={"a": "b"})
    files = {"sasa.json": ""}
    torch.export.load(path, extra_files=files)
    assert files == {"sasa.json": '{"a": "b"}'}
    path = sasa.export(model, tmp_path / "m.pt2", to="aoti", input_size=(3, 8, 8), metadata={"a": "b"})
    assert torch._inductor.aoti_load_package(str(path)).get_metadata()["a"] == "b"


def test_a_network_of_one_size(tmp_path: Path) -> None:
    model = timm.create_model("vit_tiny_patch16_224", num_classes=3, img_size=32, depth=1).eval()
    with pytest.raises(ValueError, match=r"^model: expected a network .* fixed_size=True fixes height"):
        sasa.export(model, tmp_path / "m.onnx", input_size=(3, 32, 32))
    path = sasa.export(model, tmp_path / "m.onnx", input_size=(3, 32, 32), fixed_size=True)
    images = [networks.images(batch, 3, 32, 32) for batch in (1, 4)]
    for x, output in zip(images, outputs_of_a_new_process(path, "onnx", images), strict=True):
        torch.testing.assert_close(output, model(x).detach(), rtol=1e-4, atol=1e-5)


class _Counts(nn.Module):
    """Depends on how often it was called."""

    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x + self.calls


class _Sizes(nn.Module):
    """Takes the traced batch size for a constant."""

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.zeros(int(x.shape[0]), 1, 1, 1)


class _Roots(nn.Module):
    """An operation that ONNX does not have."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.linalg.eigvalsh(x @ x.transpose(2, 3))


def test_programs_need_maps_of_two_pixels(tmp_path: Path) -> None:
    """The last map of 32 x 32 pixels has one; torch.export specializes on it."""
    model = networks.tiny()
    with pytest.raises(ValueError, match=r"^model: expected a network that runs from m\.pt2 on .*fixed"):
        sasa.export(model, tmp_path / "m.pt2", to="pt2", input_size=(3, 32, 32))
    assert list(tmp_path.iterdir()) == []
    path = sasa.export(model, tmp_path / "m.pt2", to="pt2", input_size=(3, 32, 32), fixed_size=True)
    x = networks.images(3, 3, 32, 32)
    torch.testing.assert_close(torch.export.load(path).module()(x), model(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (_Counts, {}, r"^model: expected a network that computes the same in m\.onnx, got another output"),
        (_Roots, {}, r"^model: expected operations that ONNX has, got an error: .*linalg_eigh"),
        (nn.Identity, {"to": "tflite"}, r"^to: expected one of onnx, pt2, aoti, got 'tflite'"),
        (nn.Identity, {"to": "pt2", "opset": 18}, r"^opset: expected None for pt2, got 18"),
        (nn.Identity, {"to": "aoti", "external_data": True}, r"^external_data: expected False for aoti"),
        (nn.Identity, {"to": "aoti"}, r"^path: expected a file that ends in \.pt2 for aoti, got .*m\.onnx"),
        (nn.Identity, {"input_size": (3, 0, 8)}, r"^input_size: expected positive \(C, H, W\)"),
        (lambda: nn.BatchNorm2d(3).train(), {}, r"^model: expected evaluation mode"),
    ],
)
def test_what_cannot_be_exported_leaves_no_file(
    tmp_path: Path, model: Callable[[], nn.Module], options: dict[str, object], message: str
) -> None:
    options = {"input_size": (3, 16, 16), **options}
    network = model() if isinstance(model, type(lambda: 0)) else model().eval()
    with pytest.raises(ValueError, match=message):
        sasa.export(network, tmp_path / "m.onnx", **options)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sasa.deploy.onnx_files.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"needs the package 'onnx': pip install"):
        sasa.export(nn.Identity().eval(), tmp_path / "m.onnx")
    with pytest.raises(ModuleNotFoundError, match=r"needs the package 'onnxruntime'"):
        load_onnx(tmp_path / "m.onnx")


def test_files_that_are_no_classifier_of_sasa(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"expected an ONNX file, got .*m\.onnx, which does not"):
        load_onnx(tmp_path / "m.onnx")
    (tmp_path / "m.onnx").write_text("<html>")
    with pytest.raises(ValueError, match=r"m\.onnx: expected an ONNX file, got an error"):
        load_onnx(tmp_path / "m.onnx")
    path = sasa.export(nn.Identity().eval(), tmp_path / "m.onnx", input_size=(3, 8, 8))
    with pytest.raises(
        ValueError, match=r"m\.onnx: expected metadata of WeightsMetadata, got none of classes"
    ):
        load_onnx(path)


@pytest.mark.parametrize("to", ["onnx", "pt2"])
def test_a_detector(tmp_path: Path, to: str) -> None:
    """The run of one: its raw outputs, the detections that are made of them, and its metadata."""
    torch.manual_seed(0)
    narrow = {"width_mult": 0.125, "num_heads": 2, "kernel_size": 3, "stage_types": STAGES}
    # In ONNX, attention in pyramid and heads gives a graph of 13,000 nodes.
    layers = {"fpn_and_heads": "conv" if to == "onnx" else "attention", "fpn_channels": 32, "num_heads": 4}
    metadata = DetectorMetadata("sasa_resnet26", narrow, layers, ["a", "b", "c"], 192, [0.4] * 3, [0.2] * 3)
    detector = metadata.create_model().eval()
    torch.nn.init.normal_(list(detector.head.classification_head.cls_logits.parameters())[-1])
    save_weights(tmp_path / "model.safetensors", detector, metadata)
    path = export_run(tmp_path, to=to)
    if to == "onnx":
        assert onnx_files.metadata(path)["classes"] == '["a", "b", "c"]'
    image = torch.rand(3, 160, 192)
    images = detector.transform([image])[0].tensors
    with torch.no_grad():
        raw = RawOutputs(detector)(images)
        (want,) = detector([image])
    load = onnx_files.load if to == "onnx" else program_files.load_program
    for output, expected in zip(load(path)(images), raw, strict=True):
        torch.testing.assert_close(output.detach(), expected, rtol=0, atol=1e-4)
    (got,) = detections_from(*raw, tuple(images.shape[2:]))
    assert len(want["boxes"]) > 10
    assert want.keys() == got.keys()
    for name, values in want.items():
        assert torch.equal(got[name], values)
