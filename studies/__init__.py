"""Studies of accuracy on a CPU, and the model on paper of the GPU kernels; `python -m studies.NAME`."""
