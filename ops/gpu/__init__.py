"""The parts that both GPU backends share: the order of convolution, projection, scan and gate.

The functions here take a :class:`.kernels.Kernels`, which launches kernels of ``ops/cuda`` or of
``ops/triton``. Each of these two packages provides kernels with their launch parameters. Neither
imports the other, and nothing here imports either. ``ops/backends`` puts them together.
"""
