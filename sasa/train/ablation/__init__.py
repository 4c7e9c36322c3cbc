"""Sweeps of the paper's ablations, their results as tables, and the comparison of two runs."""
