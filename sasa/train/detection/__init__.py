"""Training and evaluation of detectors; sasa.train offers its public names."""
