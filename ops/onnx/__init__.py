"""Translations of the operators to ONNX, for :func:`torch.onnx.export`.

They need the packages onnx and onnxscript, so nothing else in this package imports them::

    from mmv2m.ops.onnx import translations

    torch.onnx.export(model, (images,), 'model.onnx', dynamo=True,
                      custom_translation_table=translations())
"""

from .translations import translations

__all__ = ['translations']
