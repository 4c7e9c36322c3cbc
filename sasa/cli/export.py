"""sasa export."""

from __future__ import annotations

import argparse

HELP = "export a trained classifier or detector for ONNX Runtime, torch.export or C++"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the arguments."""
    parser.add_argument("run", metavar="RUN", help="run folder, .safetensors file, or built-in")
    parser.add_argument(
        "--to",
        default="onnx",
        choices=("onnx", "pt2", "aoti"),
        help="onnx, in standard operations; pt2, a program of torch.export with the ops of sasa; aoti, an "
        "AOTInductor package for C++, compiled for this machine (default: %(default)s)",
    )
    parser.add_argument(
        "--out",
        metavar="FILE",
        help="the file (default: beside the weights, with the ending .onnx, .pt2 or .aoti.pt2)",
    )
    parser.add_argument(
        "--fixed_size", action="store_true", help="fix height and width to those of evaluation"
    )
    parser.add_argument("--opset", type=int, help="operator set of ONNX (default: torch's)")
    parser.add_argument(
        "--external_data", action="store_true", help="write ONNX's weights to FILE.data, as needed above 2 GB"
    )


def run(args: argparse.Namespace) -> None:
    """Export and print the file's path."""
    from sasa.deploy import export_run

    path = export_run(
        args.run,
        args.out,
        to=args.to,
        fixed_size=args.fixed_size,
        opset=args.opset,
        external_data=args.external_data,
    )
    print(path)
