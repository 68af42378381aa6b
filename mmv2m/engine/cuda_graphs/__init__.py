"""A module's forward and backward pass as CUDA graphs, for inputs of one size."""

from .graphed_forward import GraphedForward

__all__ = ['GraphedForward']
