"""Compiling CUDA C++ at run time, with the compiler that PyTorch brings."""

import hashlib
import os
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ['Definitions', 'compile_kernel', 'source_of']

KERNELS = Path(__file__).parent / 'kernels'

Definitions = tuple[tuple[str, Any], ...]
"""Names and values that a source leaves open: preprocessor macros."""


def source_of(name: str) -> str:
    """The text of a file among the kernels."""
    return (KERNELS / name).read_text()


def compile_kernel(source: str, definitions: Definitions, architecture: str) -> bytes:
    """Compile a source file, or take what an earlier run compiled.

    Args:
        source: Name of a ``.cu`` file among the kernels.
        definitions: What it is compiled for.
        architecture: Such as ``'sm_90'``.

    Returns:
        A cubin. It is kept in ``$MMV2M_CACHE_DIR``, by default ``~/.cache/mmv2m``.

    Raises:
        RuntimeError: If the compiler refuses; with what it printed.
    """
    options = [f'--gpu-architecture={architecture}', *_options(definitions)]
    key = hashlib.sha256('\0'.join([_everything(source), _version(), *options]).encode())
    folder = Path(os.environ.get('MMV2M_CACHE_DIR', '~/.cache/mmv2m')).expanduser()
    cached = folder / f'{Path(source).stem}-{key.hexdigest()[:32]}.cubin'
    if cached.exists():
        return cached.read_bytes()
    cubin = _compile(source, options)
    _write_atomically(cached, cubin)
    return cubin


def _options(definitions: Definitions) -> list[str]:
    """Options of the compiler; Python's booleans are C++'s in small letters."""
    spelled = ((name, str(v).lower() if isinstance(v, bool) else v) for name, v in definitions)
    return ['--std=c++17', '--use_fast_math', *(f'-D{name}={value}' for name, value in spelled)]


@cache
def _headers() -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(KERNELS.glob('*.cuh'))}


def _everything(source: str) -> str:
    return '\0'.join([source_of(source), *_headers().values()])


@cache
def _version() -> str:
    from cuda.bindings import nvrtc

    return str(nvrtc.nvrtcVersion())


def _compile(source: str, options: list[str]) -> bytes:
    from cuda.bindings import nvrtc

    headers = _headers()
    _, program = nvrtc.nvrtcCreateProgram(
        source_of(source).encode(),
        source.encode(),
        len(headers),
        [text.encode() for text in headers.values()],
        [name.encode() for name in headers],
    )
    (failure,) = nvrtc.nvrtcCompileProgram(
        program, len(options), [option.encode() for option in options]
    )
    if failure != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        _, size = nvrtc.nvrtcGetProgramLogSize(program)
        log = bytearray(size)
        nvrtc.nvrtcGetProgramLog(program, log)
        raise RuntimeError(f'{source} does not compile with {options}:\n{log.decode()}')
    _, size = nvrtc.nvrtcGetCUBINSize(program)
    cubin = bytearray(size)
    nvrtc.nvrtcGetCUBIN(program, cubin)
    nvrtc.nvrtcDestroyProgram(program)
    return bytes(cubin)


def _write_atomically(path: Path, data: bytes) -> None:
    """Several processes may compile the same; a folder that cannot be written costs time only."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(data)
        os.replace(file.name, path)
    except OSError:
        pass
