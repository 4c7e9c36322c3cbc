"""How training and evaluation show what came out."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any


def quiet_lightning() -> None:
    """Leave out Lightning's notices on hardware and its tips; its warnings stay."""
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)


def first_process() -> bool:
    """Whether this process is the one that prints, of those that torchrun started."""
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))) == 0


def show(results: dict[str, Any], file: str | None = None) -> None:
    """Print accuracy and cost and write all results to file as JSON; of several processes the first does."""
    if not first_process():
        return
    top5 = f", top-5 {results['top5']:.2%}" if "top5" in results else ""
    print(f"top-1 {results['top1']:.2%}{top5}, loss {results['loss']:.4f} on {results['images']} images")
    if "twin_flops" in results:
        from sasa.models import Cost

        print(f"this network:           {Cost(results['parameters'], results['flops'])}")
        print(f"its convolutional twin: {Cost(results['twin_parameters'], results['twin_flops'])}")
    if file is not None:
        Path(file).write_text(json.dumps(results, indent=2) + "\n")
