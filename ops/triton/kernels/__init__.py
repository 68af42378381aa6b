"""The kernels, one purpose a file; what a tensor looks like to them is in each docstring."""
