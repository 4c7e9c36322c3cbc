"""Tests of `sasa.models`."""
