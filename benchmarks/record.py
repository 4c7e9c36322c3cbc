"""The JSON record of one run of a script: code, versions, machine, and what was measured."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import sasa


def new_record(module: str) -> dict[str, Any]:
    """Return a record of this process, to which a script adds its results.

    Args:
        module: Name of the script as ``python -m`` takes it, for example ``benchmarks.op``.
    """
    return {
        "command": f"python -m {module} {' '.join(sys.argv[1:])}".strip(),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": {"cpu": _cpu(), "cores": os.cpu_count()},
        "versions": {
            "python": platform.python_version(),
            **{package: version(package) for package in ("torch", "torchvision")},
            "sasa": sasa.__version__,
        },
        "commit": commit(),
        "threads": torch.get_num_threads(),
    }


def write_record(record: dict[str, Any], path: Path) -> None:
    """Write a record, and make its folder if necessary."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def commit() -> str:
    """Return the commit, followed by + if tracked files differ from it.

    Without git it is taken from the environment variable SASA_COMMIT, or "unknown".
    """

    def git(*command: str) -> str:
        folder = Path(__file__).parent
        return subprocess.run(
            ["git", *command], cwd=folder, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get("SASA_COMMIT", "unknown")


def _cpu() -> str:
    """Return the processor's model name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
