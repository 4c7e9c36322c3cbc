"""The files of a run folder."""

from __future__ import annotations

CONFIG_FILE = "config.yaml"
"""The complete configuration."""
METRICS_FILE = "metrics.csv"
"""One row per epoch."""
CHECKPOINTS = "checkpoints"
"""The folder of the checkpoints."""
WEIGHTS_FILE = "model.safetensors"
"""The evaluated weights; the run is finished soon after they are written."""
TIMM_CONFIG_FILE = "config.json"
"""What timm and the Hugging Face Hub need to know of a classifier."""
RESULTS_FILE = "results.json"
"""The results; a run that has them is finished."""
LOCK_FILE = "lock"
"""Locked by the process that writes to the folder, whose number it contains."""
