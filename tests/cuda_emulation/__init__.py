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

COMPILER = ['g++', '-std=c++17', '-O1', '-fPIC', '-DMMV2M_HOST', f'-I{KERNELS}', f'-I{HERE}']


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
    header, emulation = _what_kernels_share()
    library = Path(mkdtemp()) / f'{name}.so'
    spelled = [f'-D{k}={str(v).lower() if isinstance(v, bool) else v}' for k, v in definitions]
    command = [*COMPILER, '-shared', '-include', header, *spelled]
    command += [f'-DSOURCE="{source}"', f'-DKERNEL={name}']
    command += [str(HERE / 'run.cpp'), emulation, '-o', str(library)]
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(library)).run


@cache
def _what_kernels_share() -> tuple[str, str]:
    """Compiled once: that takes longer than most of the kernels themselves.

    Returns:
        A header beside its compiled form, which the compiler takes instead; the emulation.
    """
    header = Path(mkdtemp()) / 'shared.h'
    header.write_text('#include "device.cuh"\n')
    subprocess.run([*COMPILER, '-x', 'c++-header', header, '-o', f'{header}.gch'], check=True)
    emulation = header.with_name('emulation.o')
    command = [*COMPILER, '-c', str(HERE / 'emulation.cpp'), '-o', str(emulation)]
    subprocess.run(command, check=True)
    return str(header), str(emulation)
