"""A model on paper of the time of the GPU kernels; README.md is the design note."""
