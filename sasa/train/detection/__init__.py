"""Training and evaluation of detectors; sasa.train exports the public names."""
