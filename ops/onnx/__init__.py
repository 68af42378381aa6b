"""The operators as ONNX: what :func:`torch.onnx.export` needs to know of them.

Needs the packages onnx and onnxscript, so nothing imports this by itself::

    from mmv2m.ops.onnx import translations

    torch.onnx.export(model, (images,), 'model.onnx', dynamo=True,
                      custom_translation_table=translations())
"""

from .translations import translations

__all__ = ['translations']
