"""The CPU's kernels in C++, and the operators that are put together of them."""
