"""Inference in ONNX Runtime: networks exported by `sasa.export` against torchvision's ResNet-50 at 224 × 224.

Outputs are checked against those of the network in PyTorch.

    python -m benchmarks.onnx_runtime [--threads 2] [--quick]
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import torch

import sasa
from benchmarks.measure import Contender, Report, against, arguments
from benchmarks.network import OURS, calibrated, create, resnet50, smooth_images
from sasa.deploy.onnx_classifier import OnnxNetwork

TOLERANCE = 1e-4  # of the largest logit; the errors are about 1e-6


def main() -> None:
    """Export, measure, print and write."""
    report = Report("onnx_runtime", arguments(__doc__).parse_args())
    batches, side = ((1,), 64) if report.args.quick else ((1, 8), 224)
    images = smooth_images(max(batches), side).contiguous()
    ours = OURS[:1] if report.args.quick else OURS
    networks = {
        "ResNet-50": calibrated(resnet50(), images),
        **{name: calibrated(create(name, report.layer_backend), images) for name in ours},
    }
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        run = {
            name: OnnxNetwork(sasa.export(network, Path(folder, name), input_size=(3, side, side)))
            for name, network in networks.items()
        }
        for batch in batches:
            x = images[:batch]
            contenders = [
                Contender(name, partial(run[name], x), against(network(x)), TOLERANCE)
                for name, network in networks.items()
            ]
            timings = report.measure(
                f"fp32, {side} × {side}, batch {batch}", contenders, "ResNet-50", rounds=15
            )
            for name in ours:
                what = f"ONNX Runtime, fp32, batch {batch}: {name} / ResNet-50"
                report.target(what, timings.ratio(name, "ResNet-50"), "<=", 2.0)
    report.finish()


if __name__ == "__main__":
    main()
