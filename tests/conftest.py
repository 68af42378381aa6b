"""Lets Triton kernels run without a GPU, and spares all tests what libraries do again and again.

The environment has to be set before anything imports Triton.
"""

import gc
import os
import shutil
from functools import cache

if shutil.which('nvidia-smi') is None:
    os.environ.setdefault('TRITON_INTERPRET', '1')


def pytest_configure(config):
    _format_no_configs()
    _interpret_faster()
    _interpret_masks()


def pytest_collection_finish(session):
    """Leave what the imports made out of later garbage collections.

    mmengine collects garbage at each start and end of a training. To look through the libraries'
    millions of objects takes longer than such a training.
    """
    gc.collect()
    gc.freeze()


def _format_no_configs():
    """The configs' texts in logs and checkpoints need not be pretty, which takes yapf long."""
    try:
        from yapf.yapflib import yapf_api
    except ImportError:
        return
    yapf_api.FormatCode = lambda text, **_: (text, True)


def _interpret_faster():
    """Spare Triton's interpreter what it does again at every call of a function by a kernel.

    It looks through the language for what to replace, which takes longer than most functions; only
    what a function is the first to see has not been replaced by the kernel's own launch. And for
    each number it makes a table of types, to look up one.
    """
    if os.environ.get('TRITON_INTERPRET') != '1':
        return
    try:
        from triton.runtime import interpreter
        from triton.runtime.interpreter import InterpretedFunction, _get_np_dtype, _patch_lang
    except ImportError:
        return
    replace_once, found = cache(_patch_lang), {}

    def get_np_dtype(dtype):
        key = type(dtype), dtype.name
        if key not in found:
            found[key] = _get_np_dtype(dtype)
        return found[key]

    def call(self, *args, **kwargs):
        replace_once(self.fn)
        return self.rewrite()(*args, **kwargs)

    interpreter._get_np_dtype = get_np_dtype
    InterpretedFunction.__call__ = call


def _interpret_masks():
    """Give Triton 3.9's interpreter the masks that its loads and stores take.

    Two booleans joined by ``&`` are a boolean in Triton, but an int32 in the interpreter's arrays.
    """
    if os.environ.get('TRITON_INTERPRET') != '1':
        return
    try:
        from triton.language import int1
        from triton.runtime.interpreter import InterpreterBuilder, TensorHandle
    except ImportError:
        return
    load, store = InterpreterBuilder.create_masked_load, InterpreterBuilder.create_masked_store

    def boolean(mask):
        return TensorHandle(mask.data.astype(bool, copy=False), int1)

    def masked_load(self, pointers, mask, *others):
        return load(self, pointers, boolean(mask), *others)

    def masked_store(self, pointers, value, mask, *others):
        return store(self, pointers, value, boolean(mask), *others)

    InterpreterBuilder.create_masked_load = masked_load
    InterpreterBuilder.create_masked_store = masked_store
