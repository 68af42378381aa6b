"""Compilation of kernels at run time. Compiled kernels are kept in a folder."""

import contextlib
import hashlib
import os
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from . import ahead, nvrtc

__all__ = ['Definitions', 'compile_ahead', 'compile_kernel', 'source_of']

KERNELS = Path(__file__).parents[1] / 'cuda' / 'kernels'

Definitions = tuple[tuple[str, Any], ...]
"""Names and values of preprocessor macros for which a source is compiled."""


def source_of(name: str) -> str:
    """Read the text of a kernel's file."""
    return (KERNELS / name).read_text()


def compile_kernel(source: str, definitions: Definitions, architecture: str) -> bytes:
    """Compile a source file, or read the cubin that an earlier run or another process compiled.

    Args:
        source: Name of a ``.cu`` file among the kernels.
        definitions: Names and values of macros.
        architecture: The GPU's architecture, such as ``'sm_90'``.

    Returns:
        A cubin. It is kept in ``$MMV2M_CACHE_DIR``, by default ``~/.cache/mmv2m``.

    Raises:
        RuntimeError: If the compiler fails. The message has the compiler's output.
    """
    key = (source, definitions, architecture)
    cubin: bytes = ahead.result(key, lambda: _find_or_compile(*key))
    return cubin


def compile_ahead(source: str, definitions: Definitions, architecture: str) -> None:
    """Start :func:`compile_kernel` in the background, so that a later call returns sooner."""
    key = (source, definitions, architecture)
    ahead.start(key, lambda: _find_or_compile(*key))


def _find_or_compile(source: str, definitions: Definitions, architecture: str) -> bytes:
    options = [f'--gpu-architecture={architecture}', *_options(definitions)]
    key = hashlib.sha256('\0'.join([_everything(source), _version(), *options]).encode())
    name = f'{Path(source).stem}-{key.hexdigest()[:32]}'
    cached = ahead.cache_folder() / f'{name}.cubin'
    found = _read(cached)
    if found is not None:
        return found
    with ahead.exclusively(name):
        found = _read(cached)  # another process may have compiled it while this one waited
        if found is None:
            with ahead.compiling(architecture):
                found = _compile(source, options)
            _write_atomically(cached, found)
    return found


def _options(definitions: Definitions) -> list[str]:
    """Options of the compiler, with booleans in lower case, as in C++."""
    spelled = ((name, str(v).lower() if isinstance(v, bool) else v) for name, v in definitions)
    return ['--std=c++17', '--use_fast_math', *(f'-D{name}={value}' for name, value in spelled)]


@cache
def _headers() -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(KERNELS.glob('*.cuh'))}


def _everything(source: str) -> str:
    return '\0'.join([source_of(source), *_headers().values()])


@cache
def _version() -> str:
    return nvrtc.version()


def _compile(source: str, options: list[str]) -> bytes:
    try:
        return nvrtc.compile_apart(nvrtc.Program(source, source_of(source), _headers(), options))
    except RuntimeError as refusal:
        raise RuntimeError(f'{source} does not compile with {options}:\n{refusal}') from None


def _read(path: Path) -> bytes | None:
    with contextlib.suppress(OSError):
        return path.read_bytes()
    return None


def _write_atomically(path: Path, data: bytes) -> None:
    """Write a file, if its folder can be written; if not, that costs only time."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(data)
        os.replace(file.name, path)
