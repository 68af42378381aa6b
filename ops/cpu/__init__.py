"""The CPU's kernels in C++, and the operators that are composed of them."""
