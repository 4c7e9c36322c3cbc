"""How long trained networks take for an image."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

import sasa

BATCH, ROUNDS = 32, 7
METHOD = (
    f"sasa.fuse, eval, inference_mode, channels-last, batches of {BATCH} random images; every network in "
    f"turn, {ROUNDS} rounds after one to warm up; the median, divided by {BATCH}"
)


def inference_seconds(
    networks: Mapping[str, tuple[nn.Module, tuple[int, int, int]]], *, precision: str = "32-true"
) -> dict[str, float]:
    """Seconds an image of several networks, timed in turns so that a busy machine slows all of them alike.

    See METHOD. On a GPU where there is one, else on the CPU with torch's number of threads.

    Args:
        networks: By name, each with the (C, H, W) of its images.
        precision: "32-true", or "bf16-mixed" or "16-mixed" for autocast.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.float16 if precision == "16-mixed" else torch.bfloat16
    ready = {}
    for name, (network, size) in networks.items():
        fused = sasa.fuse(network.eval()).to(device).to(memory_format=torch.channels_last)
        ready[name] = fused, torch.randn(BATCH, *size, device=device).to(memory_format=torch.channels_last)
    seconds: dict[str, list[float]] = {name: [] for name in ready}
    with torch.inference_mode(), torch.autocast(device.type, dtype, enabled=precision != "32-true"):
        for _ in range(ROUNDS + 1):
            for name, (network, images) in ready.items():
                _wait_for(device)
                start = time.perf_counter()
                network(images)
                _wait_for(device)
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(times[1:]) / BATCH for name, times in seconds.items()}


def inference_machine(precision: str) -> dict[str, Any]:
    """What a time holds for: device, threads, precision, versions and method."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return {
        "device": device,
        "threads": torch.get_num_threads(),
        "precision": precision,
        "torch": torch.__version__,
        "sasa": sasa.__version__,
        "method": METHOD,
    }


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
