"""Tests of `sasa.ops`."""
