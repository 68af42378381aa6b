"""The CUDA kernels on the CPU: compiled by g++, with emulated threads."""

import ctypes
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
import torch

from mmv2m.ops.runtime.compile import KERNELS
from mmv2m.ops.runtime.launch import PREPARE, Launch, Prepared
from mmv2m.ops.runtime.watch import listening, rehearsing

__all__ = [
    'DEVICE',
    'HAS_COMPILER',
    'ON_GPU',
    'launches',
    'launches_of_cuda',
    'needs_a_device',
    'nothing_launched',
]

HERE = Path(__file__).parent
HAS_COMPILER = shutil.which('g++') is not None
ON_GPU = torch.cuda.is_available()
DEVICE = 'cuda' if ON_GPU else 'cpu'

needs_a_device = pytest.mark.skipif(not (ON_GPU or HAS_COMPILER), reason='neither GPU nor g++')

COMPILER = ['g++', '-std=c++17', '-O0', '-fPIC', '-DMMV2M_HOST', f'-I{KERNELS}', f'-I{HERE}']


def emulated(call: Launch, device: torch.device) -> Prepared:
    """A launch on the emulation, whose pointers are those of tensors in main memory."""

    def start(stream: Any, pointers: Any, extra: None) -> int:
        run = _compile(call.source, call.definitions)
        run(*call.grid, call.threads, call.shared_bytes, pointers)
        return 0

    return Prepared(start, call.arguments)


PREPARE['cpu'] = emulated


@contextmanager
def launches() -> Iterator[list]:
    """Collects what is launched, while it is launched."""
    calls: list = []
    with listening(lambda call, prepare: calls.append(call)):
        yield calls


def launches_of_cuda(function: Callable, *args: Any, **options: Any) -> list[Launch]:
    """What a function would launch in CUDA C++; nothing is."""
    calls: list = []
    with rehearsing(calls.append):
        function(*args, **options)
    return [call for call in calls if isinstance(call, Launch)]


def nothing_launched() -> Any:
    """A context in which a launch fails."""
    return rehearsing(lambda call: pytest.fail(f'{call} is launched'))


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
