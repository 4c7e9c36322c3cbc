"""sasa models."""

from __future__ import annotations

import argparse

HELP = "list the networks with their parameters and FLOPs at 224 × 224"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define no arguments."""


def run(args: argparse.Namespace) -> None:
    """Print a line per network."""
    from sasa.models import cost, create_model, list_models

    for name in list_models():
        print(f"{name:<24} {cost(create_model(name, device='meta'))}")
