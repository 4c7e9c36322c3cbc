"""Training and evaluation of classifiers; sasa.train exports the public names."""
