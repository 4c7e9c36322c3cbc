"""Make the weights that come with sasa: python recipes/built_in.py

The script trains recipes/built_in.yaml (or takes its finished run), rounds the weights to float16, which
halves the file, measures their accuracy, and writes them to sasa/train.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import sasa.train
from sasa.train.run_folder import RESULTS_FILE
from sasa.train.weights import BUILT_IN_WEIGHTS, save_weights

RECIPE = Path(__file__).with_suffix(".yaml")


def main() -> None:
    """Train, round, measure and write."""
    config = sasa.train.load_config(RECIPE)
    if not (config.folder / RESULTS_FILE).exists():
        sasa.train.train(config)
    network, metadata = sasa.train.load_weights(config.folder)
    save_weights(BUILT_IN_WEIGHTS, network.half(), metadata)
    accuracy = sasa.train.evaluate(BUILT_IN_WEIGHTS)["top1"]
    save_weights(BUILT_IN_WEIGHTS, network, dataclasses.replace(metadata, accuracy=accuracy))
    print(f"{BUILT_IN_WEIGHTS}: {BUILT_IN_WEIGHTS.stat().st_size} bytes, top-1 {accuracy:.2%}")


if __name__ == "__main__":
    main()
