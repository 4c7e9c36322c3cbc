"""sasa compare."""

from __future__ import annotations

import argparse

HELP = "two runs or recipes side by side: accuracy, cost, speed, memory"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the arguments."""
    parser.add_argument("one", metavar="A", help="run folder or recipe")
    parser.add_argument("other", metavar="B", help="run folder or recipe")
    parser.add_argument("--json", metavar="FILE", help="write the comparison to this file as well")


def run(args: argparse.Namespace) -> None:
    """Compare and print."""
    import dataclasses
    import json
    from pathlib import Path

    from sasa.train import compare

    found = compare(args.one, args.other)
    a, b = found.one, found.other
    print(f"A: {a.name}, {a.model}\nB: {b.name}, {b.model}\n")
    print(f"{'':34}{'A':>12}{'B':>12}{'B / A':>9}")
    alike = a.trained_on == b.trained_on
    for label, key, factor, form, comparable in (
        ("test top-1, %", "top1", 100, ".2f", True),
        ("test loss", "loss", 1, ".4f", True),
        ("parameters, M", "parameters", 1e-6, ".3f", True),
        ("FLOPs of an image, M", "flops", 1e-6, ".1f", True),
        ("inference of an image, ms", "inference_seconds", 1e3, ".3f", True),
        ("training, images/s", "training_images_per_second", 1, ".0f", alike),
        ("peak memory of training, MB", "peak_memory_bytes", 1e-6, ".0f", alike),
    ):
        values = [getattr(side, key) for side in (a, b)]
        cells = ["–" if value is None else f"{factor * value:{form}}" for value in values]
        ratio = f"{values[1] / values[0]:.3f}" if comparable and None not in values and values[0] else "–"
        print(f"{label:34}{cells[0]:>12}{cells[1]:>12}{ratio:>9}")
    for side, trained_on in (("A", a.trained_on), ("B", b.trained_on)):
        if trained_on is not None:
            print(
                f"{side} was trained on {trained_on}" + ", Python's memory included" * ("cpu" in trained_on)
            )
    if found.differences:
        print("\nThe configurations differ in")
    for key, (before, after) in found.differences.items():
        print(f"  {key}: {before} | {after}")
    if args.json is not None:
        Path(args.json).write_text(json.dumps(dataclasses.asdict(found), indent=2) + "\n")
