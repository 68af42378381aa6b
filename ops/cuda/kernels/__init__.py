"""CUDA C++ sources; see ``compile.py``."""
