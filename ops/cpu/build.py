"""Compilation of the CPU's kernels at their first use, once for all processes of a machine."""

import hashlib
import logging
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

import torch

from ..runtime.ahead import cache_folder, exclusively

__all__ = ['kernels', 'refusal']

KERNELS = Path(__file__).parent / 'kernels'
TORCH = Path(torch.__file__).parent

FLAGS = ('-std=c++20', '-O3', '-fPIC', '-fno-math-errno', '-fno-trapping-math')
VECTORS = {
    'AVX2': ('-mavx2', '-mfma', '-mf16c'),
    'AVX512': ('-mavx512f', '-mavx512bw', '-mavx512vl', '-mavx512dq', '-mavx2', '-mfma', '-mf16c'),
}
"""Flags for the vector instructions that PyTorch itself uses on this CPU."""

THREADS = ('-fopenmp',) if sys.platform == 'linux' else ()
"""Flags for OpenMP. The kernels run on one thread on other systems than Linux.

OpenMP's library is not linked, so that the kernels call the OpenMP that PyTorch has loaded. With a
library of their own, they would start a second set of threads beside PyTorch's.
"""

LOOKUP = ('-undefined', 'dynamic_lookup') if sys.platform == 'darwin' else ()


@torch.compiler.assume_constant_result  # it cannot be traced
def refusal() -> str | None:
    """Load the kernels, and compile them first if they are not in the cache.

    Returns:
        Why they cannot be loaded, or None.
    """
    return _load()


def kernels() -> Any:
    """Load the kernels if they are not loaded yet, and return them as operators of PyTorch.

    An exported program calls this without asking :func:`refusal`.

    Raises:
        RuntimeError: If the kernels cannot be loaded. The message says why.
    """
    reason = _load()
    if reason is not None:
        raise RuntimeError(f"the backend 'cpu' cannot run here: {reason}")
    return torch.ops.mmv2m_cpu


@cache
def _load() -> str | None:
    try:
        torch.ops.load_library(_find_or_compile())
    except RuntimeError as error:
        return str(error)
    except OSError as error:
        return f'its kernels cannot be kept in $MMV2M_CACHE_DIR, or loaded from there: {error}'
    return None


def _find_or_compile() -> Path:
    """Find or compile the library for this source, this PyTorch and these instructions.

    Returns:
        Its path, ``cpu-*.so`` in the cache.

    Raises:
        RuntimeError: If there is no compiler, or it fails. The message has the compiler's first
            error.
        OSError: If the folder of the cache cannot be written.
    """
    sources = [path.read_text() for path in sorted(KERNELS.iterdir()) if path.is_file()]
    key = '\0'.join([torch.__version__, sys.platform, *_flags(), *sources])
    name = f'cpu-{hashlib.sha256(key.encode()).hexdigest()[:32]}'
    cached = cache_folder() / f'{name}.so'
    if cached.exists():
        return cached
    with exclusively(name):
        if not cached.exists():  # another process may have made it while this one waited
            _compile(cached)
    return cached


def _compile(library: Path) -> None:
    compiler = os.environ.get('CXX', '').strip() or 'c++'
    if shutil.which(shlex.split(compiler)[0]) is None:
        raise RuntimeError(f'there is no C++ compiler {compiler!r}: install g++, or set $CXX')
    library.parent.mkdir(parents=True, exist_ok=True)
    log = logging.getLogger('mmv2m')
    if os.environ.get('LOCAL_RANK', '0') == '0':
        log.warning(
            'compiling the CPU kernels with %s, which takes half a minute; they are kept in %s and '
            'compiled only once',
            *(compiler, library.parent),
        )
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        kernels, made = str(Path(folder, 'kernels.o')), str(Path(folder, library.name))
        source = str(KERNELS / 'operators.cpp')
        _run(compiler, *_flags(), f'-isystem{TORCH}/include', '-c', source, '-o', kernels)
        libraries = (f'-L{TORCH}/lib', '-ltorch_cpu', '-lc10', *LOOKUP)
        _run(compiler, '-shared', kernels, '-o', made, *libraries)
        os.replace(made, library)
    log.info('compiled the CPU kernels in %.1f s', time.monotonic() - begun)


def _run(compiler: str, *arguments: str) -> None:
    command = [*shlex.split(compiler), *arguments]  # $CXX may be 'ccache g++'
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        printed = done.stderr.splitlines() or ['it printed nothing']
        reason = next((line for line in printed if 'error' in line), printed[0])
        raise RuntimeError(f'its kernels do not compile with {compiler}: {reason}')


def _flags() -> tuple[str, ...]:
    """The compiler's flags, without paths."""
    capability = torch.backends.cpu.get_cpu_capability()
    capability = capability if capability in VECTORS else 'DEFAULT'
    names = (f'-DCPU_CAPABILITY={capability}', f'-DCPU_CAPABILITY_{capability}')
    abi = f'-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}'
    return (*FLAGS, *VECTORS.get(capability, ()), *names, abi, *THREADS)
