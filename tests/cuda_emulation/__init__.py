"""The CUDA kernels on the CPU: compiled by g++, with emulated threads."""

import ctypes
import shutil
import subprocess
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from mmv2m.ops.cuda_backend.compile import KERNELS
from mmv2m.ops.cuda_backend.launch import Launch

__all__ = ['HAS_COMPILER', 'emulate']

HERE = Path(__file__).parent
HAS_COMPILER = shutil.which('g++') is not None


def emulate(call: Launch) -> None:
    """Run a kernel's call whose pointers are those of tensors in main memory."""
    run = _compile(call.source, call.definitions)
    run(*call.grid, call.threads, call.shared_bytes, *map(ctypes.byref, call.arguments))


@cache
def _compile(source: str, definitions: tuple) -> ctypes._CFuncPtr:
    name = Path(source).stem
    library = Path(mkdtemp()) / f'{name}.so'
    spelled = [f'-D{k}={str(v).lower() if isinstance(v, bool) else v}' for k, v in definitions]
    command = ['g++', '-std=c++17', '-O1', '-shared', '-fPIC', '-DMMV2M_HOST', *spelled]
    command += [f'-I{KERNELS}', f'-I{HERE}', str(HERE / f'{name}.cpp'), '-o', str(library)]
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(library)).run
