"""Speed and memory against the usual ways; public API of sasa only. `python -m benchmarks` runs all."""
