"""Trained networks as files for other runtimes."""

from sasa.deploy.exporter import export
from sasa.deploy.hub import push, write_repository
from sasa.deploy.onnx_classifier import load_onnx
from sasa.deploy.runs import export_run

__all__ = ["export", "export_run", "load_onnx", "push", "write_repository"]
