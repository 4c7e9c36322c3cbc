"""Tests of `sasa.layers`."""
