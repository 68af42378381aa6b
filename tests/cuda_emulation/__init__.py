"""The CUDA kernels on the CPU: compiled by g++, with emulated threads."""

import ctypes
import shutil
import subprocess
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pytest
import torch

from mmv2m.ops.cuda_backend.compile import KERNELS
from mmv2m.ops.cuda_backend.launch import Launch, launch

__all__ = ['DEVICE', 'HAS_COMPILER', 'LAUNCH', 'ON_GPU', 'emulate', 'needs_a_device']

HERE = Path(__file__).parent
HAS_COMPILER = shutil.which('g++') is not None
ON_GPU = torch.cuda.is_available()
DEVICE = 'cuda' if ON_GPU else 'cpu'

needs_a_device = pytest.mark.skipif(not (ON_GPU or HAS_COMPILER), reason='neither GPU nor g++')

COMPILER = ['g++', '-std=c++17', '-O1', '-fPIC']


def emulate(call: Launch, device: torch.device) -> None:
    """Run a kernel's call whose pointers are those of tensors in main memory."""
    assert device.type == 'cpu'
    run = _compile(call.source, call.definitions)
    pointers = (ctypes.c_void_p * len(call.arguments))(*map(ctypes.addressof, call.arguments))
    run(*call.grid, call.threads, call.shared_bytes, pointers)


LAUNCH = launch if ON_GPU else emulate
"""What runs a kernel's call here."""


@cache
def _compile(source: str, definitions: tuple) -> ctypes._CFuncPtr:
    name = Path(source).stem
    library = Path(mkdtemp()) / f'{name}.so'
    spelled = [f'-D{k}={str(v).lower() if isinstance(v, bool) else v}' for k, v in definitions]
    command = [*COMPILER, '-shared', '-include', _standard_headers(), '-DMMV2M_HOST', *spelled]
    command += [f'-DSOURCE="{source}"', f'-DKERNEL={name}', f'-I{KERNELS}', f'-I{HERE}']
    command += [str(HERE / 'run.cpp'), '-o', str(library)]
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(library)).run


@cache
def _standard_headers() -> str:
    """A header beside its compiled form, which the compiler takes instead."""
    header = Path(mkdtemp()) / 'standard.h'
    shutil.copy(HERE / header.name, header)
    command = [*COMPILER, '-x', 'c++-header', str(header), '-o', f'{header}.gch']
    subprocess.run(command, check=True)
    return str(header)
