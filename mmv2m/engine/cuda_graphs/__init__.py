"""CUDA graphs of a module's forward and backward pass, for inputs of one size."""

from .graphed_forward import GraphedForward

__all__ = ['GraphedForward']
