"""Lets Triton kernels run without a GPU; has to happen before anything imports Triton."""

import os
import shutil
from functools import cache

if shutil.which('nvidia-smi') is None:
    os.environ.setdefault('TRITON_INTERPRET', '1')


def pytest_configure(config):
    """Spare Triton's interpreter what it does again at every call of a function by a kernel.

    It looks through the language for what to replace, which takes longer than most functions; only
    what a function is the first to see has not been replaced by the kernel's own launch.
    """
    if os.environ.get('TRITON_INTERPRET') != '1':
        return
    try:
        from triton.runtime.interpreter import InterpretedFunction, _patch_lang
    except ImportError:
        return
    replace_once = cache(_patch_lang)

    def call(self, *args, **kwargs):
        replace_once(self.fn)
        return self.rewrite()(*args, **kwargs)

    InterpretedFunction.__call__ = call
