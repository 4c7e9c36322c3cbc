"""The paper's ablations: sweeps of runs under one recipe, and what came out as one tidy table."""
