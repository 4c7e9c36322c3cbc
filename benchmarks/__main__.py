"""Run all benchmarks, each in its own process, and print their results next to the targets.

    python -m benchmarks [--threads 2] [--quick]    # make bench
    python -m benchmarks layer network              # some of them
    python -m benchmarks --show                     # only print the files in results/

This takes many minutes and needs an otherwise idle machine and a C++ compiler for torch.compile.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import RESULTS, print_targets

# The file in results/ and the command that writes it.
ALL = {
    "op": ["benchmarks.op"],
    "layer": ["benchmarks.layer"],
    "network": ["benchmarks.network"],
    "network_bf16": ["benchmarks.network", "--dtype", "bf16"],
    "training_step": ["benchmarks.training_step"],
    "scaling": ["benchmarks.scaling"],
    "onnx_runtime": ["benchmarks.onnx_runtime"],
}


def main() -> None:
    """Run the benchmarks; exit with an error if one failed, after running the others."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(ALL)}; default: all")
    parser.add_argument("--show", action="store_true", help="measure nothing")
    parser.add_argument("--quick", action="store_true", help="test the scripts; results/ is not changed")
    parser.add_argument("--threads", help="default: all cores")
    parser.add_argument("--backend", help="backend of local attention")
    args = parser.parse_args()
    if unknown := set(args.names) - set(ALL):
        parser.error(f"NAME: expected some of {', '.join(ALL)}, got {', '.join(sorted(unknown))}")
    names = args.names or list(ALL)
    root = Path(__file__).parents[1]
    options = ["--quick"] * args.quick
    options += [f"--{name}={value}" for name in ("threads", "backend") if (value := getattr(args, name))]
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) if args.quick else RESULTS
        for name in names if not args.show else ():
            print(f"\n=== {name}\n", flush=True)
            out = ["--out", str(results / f"{name}.json")] if args.quick else []
            if subprocess.run([sys.executable, "-m", *ALL[name], *options, *out], cwd=root).returncode:
                failed.append(name)
        files = [results / f"{name}.json" for name in names if name not in failed]
        records = [json.loads(file.read_text(encoding="utf-8")) for file in files if file.exists()]
    print("\n=== all\n")
    print_targets(records)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
