"""The ``'triton'`` backend: kernels in ``kernels/``, and here the functions that launch them.

Nothing outside imports this but ``ops/backends.py``, and only when a kernel is to run: Triton is
optional.
"""
