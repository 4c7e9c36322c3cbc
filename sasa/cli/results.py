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


def show(results: dict[str, Any], file: str | None = None) -> None:
    """Print the accuracy, and write all of results to file as JSON; of several processes, the first does."""
    if int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))) != 0:
        return
    top5 = f", top-5 {results['top5']:.2%}" if "top5" in results else ""
    print(f"top-1 {results['top1']:.2%}{top5}, loss {results['loss']:.4f} on {results['images']} images")
    if file is not None:
        Path(file).write_text(json.dumps(results, indent=2) + "\n")
