"""Data sets, transforms and the preprocessing of batches, registered on import."""

from .data_preprocessor import BatchedClsDataPreprocessor
from .digits import Digits
from .transforms import TorchRandomResizedCrop

__all__ = ['BatchedClsDataPreprocessor', 'Digits', 'TorchRandomResizedCrop']
