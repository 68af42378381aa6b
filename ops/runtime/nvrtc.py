"""Compilation of CUDA C++ with NVRTC, the compiler that PyTorch installs.

NVRTC compiles one program at a time in a process. To compile several at the same time,
:func:`compile_apart` runs this file as a script in new processes, which import little more than the
compiler.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

__all__ = ['Program', 'compile_apart', 'compile_here', 'version']


class Program(NamedTuple):
    """A program to be compiled.

    Attributes:
        name: Name of the source's file.
        source: Text of the source.
        headers: Texts of headers, by name.
        options: Options of the compiler.
    """

    name: str
    source: str
    headers: Mapping[str, str]
    options: Sequence[str]


def version() -> str:
    """The version of the compiler."""
    from cuda.bindings import nvrtc

    return str(nvrtc.nvrtcVersion())


def compile_here(program: Program) -> bytes:
    """Compile in this process.

    Returns:
        A cubin.

    Raises:
        RuntimeError: If the compiler fails. The message has the compiler's output.
    """
    from cuda.bindings import nvrtc

    headers = program.headers
    _, handle = nvrtc.nvrtcCreateProgram(
        program.source.encode(),
        program.name.encode(),
        len(headers),
        [text.encode() for text in headers.values()],
        [name.encode() for name in headers],
    )
    options = [option.encode() for option in program.options]
    (failure,) = nvrtc.nvrtcCompileProgram(handle, len(options), options)
    if failure != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        _, size = nvrtc.nvrtcGetProgramLogSize(handle)
        log = bytearray(size)
        nvrtc.nvrtcGetProgramLog(handle, log)
        raise RuntimeError(log.decode().rstrip('\0'))
    _, size = nvrtc.nvrtcGetCUBINSize(handle)
    cubin = bytearray(size)
    nvrtc.nvrtcGetCUBIN(handle, cubin)
    nvrtc.nvrtcDestroyProgram(handle)
    return bytes(cubin)


def compile_apart(program: Program) -> bytes:
    """Compile in a new process, or in this one if that fails.

    Returns:
        A cubin.

    Raises:
        RuntimeError: If the compiler fails. The message has the compiler's output.
    """
    try:
        done = subprocess.run(
            [sys.executable, __file__],
            input=json.dumps(program).encode(),
            capture_output=True,
            # Without this, the process would first look for modules in this file's folder.
            env={**os.environ, 'PYTHONSAFEPATH': '1'},
        )
    except OSError:
        return compile_here(program)
    if done.returncode == 0:
        return done.stdout
    return compile_here(program)


def main() -> None:
    """Read a program from the standard input, and write its cubin to the standard output."""
    sys.stdout.buffer.write(compile_here(Program(*json.load(sys.stdin))))


if __name__ == '__main__':
    main()
