"""How long trained networks take for an image."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

import torch
from torch import nn

import sasa

Key = TypeVar("Key")

BATCH, ROUNDS, TURN_SECONDS = 32, 7, 0.3
METHOD = (
    f"sasa.fuse, eval, inference_mode, channels-last, batches of {BATCH} random images; every network in "
    f"turn for at least {TURN_SECONDS} s, {ROUNDS} rounds after one to warm up; the median of all batches, "
    f"divided by {BATCH}"
)


class Timed(NamedTuple):
    """A network to time.

    Attributes:
        network: It is fused, and moved to the GPU where there is one.
        size: (C, H, W) of its images.
        precision: "32-true", or "bf16-mixed" or "16-mixed" for autocast.
    """

    network: nn.Module
    size: tuple[int, int, int]
    precision: str = "32-true"


def inference_seconds(networks: Mapping[Key, Timed]) -> dict[Key, float]:
    """Seconds an image of several networks, timed in turns so that a busy machine slows all of them alike.

    See METHOD. On a GPU where there is one, else on the CPU with torch's number of threads. Times of two
    calls compare less well than those of one.

    Args:
        networks: By any key.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    ready = {}
    for key, (network, size, precision) in networks.items():
        fused = sasa.fuse(network.eval()).to(device).to(memory_format=torch.channels_last)
        images = torch.randn(BATCH, *size, device=device).to(memory_format=torch.channels_last)
        ready[key] = fused, images, precision
    seconds: dict[Key, list[float]] = {key: [] for key in ready}
    with torch.inference_mode():
        for number in range(ROUNDS + 1):
            for key, (network, images, precision) in ready.items():
                times = _turn(network, images, precision)
                seconds[key] += times if number else []
    return {key: statistics.median(times) / BATCH for key, times in seconds.items()}


def _turn(network: nn.Module, images: torch.Tensor, precision: str) -> list[float]:
    """Seconds of each batch of one turn."""
    dtype = torch.float16 if precision == "16-mixed" else torch.bfloat16
    times: list[float] = []
    total = 0.0
    with torch.autocast(images.device.type, dtype, enabled=precision != "32-true"):
        while total < TURN_SECONDS:
            _wait_for(images.device)
            start = time.perf_counter()
            network(images)
            _wait_for(images.device)
            times.append(time.perf_counter() - start)
            total += times[-1]
    return times


def inference_machine() -> dict[str, Any]:
    """What times hold for: device, threads, versions and method."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return {
        "device": device,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "sasa": sasa.__version__,
        "method": METHOD,
    }


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
