"""The kernels in Triton. The docstring of each kernel gives the shapes of its tensors."""
