"""A reader of checkpoint files that runs no code that they name."""

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from types import FunctionType, SimpleNamespace
from typing import Any

import torch
from mmengine.logging import HistoryBuffer
from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler

__all__ = ['load_tensors', 'read_pickle', 'what_is_wrong']

TENSORS = {
    *(('collections', name) for name in ('OrderedDict', 'defaultdict')),
    *(('torch', name) for name in ('Size', 'device', 'Tensor')),
    *(('torch.nn.parameter', name) for name in ('Parameter', 'Buffer')),
    *(
        ('torch._utils', f'_rebuild_{name}')
        for name in ('tensor', 'tensor_v2', 'tensor_v3', 'sparse_tensor', 'qtensor')
    ),
    *(('torch._utils', f'_rebuild_parameter{end}') for end in ('', '_with_state')),
    ('torch._tensor', '_rebuild_from_type_v2'),
}
"""Module and name of the classes and functions in pickles of tensors and state dicts."""

MMENGINE = {
    ('collections', 'Counter'),
    ('mmengine.logging.history_buffer', 'HistoryBuffer'),
    ('_codecs', 'encode'),
    *(('numpy', name) for name in ('ndarray', 'dtype')),
    *(
        (f'{core}.multiarray', name)
        for core in ('numpy.core', 'numpy._core')
        for name in ('_reconstruct', 'scalar')
    ),
    *(
        (module, name)
        for module in ('builtins', '__builtin__')
        for name in ('set', 'frozenset', 'slice', 'complex', 'bytearray')
    ),
}
"""Further names in mmengine's checkpoints: curves of the log, data sets and milestones."""

ONE_CYCLE = ('mmengine.optim.scheduler.param_scheduler', 'OneCycleParamScheduler')
ANNEALING = ('_annealing_cos', '_annealing_linear')
"""A class whose pickles name one of these functions of numbers. Only the function is loaded."""


class _Opaque(dict):
    """A stand-in for an object whose class is not loaded. It keeps nothing."""

    def __new__(cls, *args: Any, **kwargs: Any) -> '_Opaque':
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        """Forget the state."""

    def append(self, item: Any) -> None:
        """Forget the item."""

    def extend(self, items: Any) -> None:
        """Forget the items."""


class _OneCycle(_Opaque):
    """A stand-in for mmengine's schedule, of which only one function is needed."""


def _unpickler(skipped: list[str]) -> type[pickle.Unpickler]:
    """Make a class of unpicklers that loads only allowed names.

    Args:
        skipped: List to which all other names are added. :class:`_Opaque` stands in for them.
    """
    trusted = _trusted_by_the_user()

    def statistic(owner: Any, name: str) -> Any:
        """Stand in for ``getattr`` in pickles, for methods of a HistoryBuffer, and ANNEALING."""
        if owner is _OneCycle and name in ANNEALING:
            return getattr(OneCycleParamScheduler, name)
        method = vars(HistoryBuffer).get(name)
        if owner is HistoryBuffer and isinstance(method, FunctionType) and name[:1] != '_':
            return method
        skipped.append(f'builtins.getattr of {name!r}')
        return _Opaque

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            # A name with dots would lead from an allowed object to its attributes, and from there
            # to any function of Python. So only names that are in the sets are looked up.
            if (module, name) in TENSORS | MMENGINE:
                return super().find_class(module, name)
            if module == 'torch' and isinstance(getattr(torch, name, None), torch.dtype):
                return getattr(torch, name)
            if module in ('builtins', '__builtin__') and name == 'getattr':
                return statistic
            if (module, name) == ONE_CYCLE:
                return _OneCycle
            if f'{module}.{name}' in trusted:
                return trusted[f'{module}.{name}']
            skipped.append(f'{module}.{name}')
            return _Opaque

    return Unpickler


def _trusted_by_the_user() -> dict[str, Any]:
    """Objects given to :func:`torch.serialization.add_safe_globals`, by their full names."""
    trusted = {}
    for entry in torch.serialization.get_safe_globals():
        item, name = entry if isinstance(entry, tuple) else (entry, None)
        trusted[name or f'{item.__module__}.{item.__qualname__}'] = item
    return trusted


def read_pickle(path: str, map_location: Any = 'cpu') -> tuple[dict[str, Any], list[str]]:
    """Read a checkpoint without running any code that the file names.

    Args:
        path: A file that :func:`torch.save` has written.
        map_location: Device of the tensors, as for :func:`torch.load`.

    Returns:
        The content of the file, and the full names of classes and functions that are not allowed.
        Empty objects take their place in the content. Tensors, the names in :data:`MMENGINE`, and
        objects given to :func:`torch.serialization.add_safe_globals` are allowed.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If the file is no checkpoint, or holds anything but a dict. The message says
            what it is.
    """
    skipped: list[str] = []
    unpickler = _unpickler(skipped)

    def load(file: Any, **options: Any) -> Any:
        return unpickler(file, **options).load()

    # Files of older versions of PyTorch are several pickles. PyTorch reads them by ``load``.
    module: Any = SimpleNamespace(Unpickler=unpickler, load=load, __name__=__name__)
    # PyTorch raises an OSError for a truncated file too, but without the errno of a missing file.
    open(path, 'rb').close()
    if _is_torchscript(path):
        raise ValueError('not a checkpoint: it is a TorchScript program')
    try:
        content = torch.load(
            path, map_location=map_location, pickle_module=module, weights_only=False
        )
    except Exception as error:
        # Bytes that are no pickle can make the unpickler fail with any error.
        raise ValueError(f'not a checkpoint: {what_is_wrong(path, error)}') from error
    if not isinstance(content, dict) or isinstance(content, _Opaque):
        kind = skipped[0] if isinstance(content, _Opaque) else type(content).__name__
        raise ValueError(f'a checkpoint is a dict, but this file holds a {kind}')
    return content, list(OrderedDict.fromkeys(skipped))


def load_tensors(path: str) -> dict[str, Any]:
    """Load the tensors of a checkpoint to the CPU, and empty objects for everything else.

    Training scripts pickle their command line or their config beside the weights. The classes of
    such objects need not be installed here.

    Args:
        path: A file that :func:`torch.save` has written.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If the file is no checkpoint, or holds anything but a dict.
    """
    return read_pickle(path)[0]


def _is_torchscript(path: str) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as file:
        return any(name.endswith('/constants.pkl') for name in file.namelist())


def what_is_wrong(path: str, error: Exception) -> str:
    """Say what a file is that cannot be read as a checkpoint.

    Args:
        path: The file.
        error: The error of reading it, for files of which nothing else can be said.
    """
    with open(path, 'rb') as file:
        start = file.read(512)
    signs: tuple[tuple[Callable[[bytes], bool], str], ...] = (
        (lambda x: not x, 'the file is empty'),
        (
            lambda x: x.startswith(b'version https://git-lfs'),
            "it is a Git LFS pointer to the file, which 'git lfs pull' fetches",
        ),
        (
            lambda x: x.lstrip().lower().startswith((b'<!doctype html', b'<html', b'<head')),
            'it is an HTML page, which a server sent in the place of the file',
        ),
    )
    for fits, what in signs:
        if fits(start):
            return what
    size = f'{Path(path).stat().st_size:,} bytes'
    if start.startswith(b'PK\x03\x04') and not zipfile.is_zipfile(path):
        return f'the file is truncated, at {size}'
    if start.startswith((b'PK\x03\x04', b'\x80')):
        return f'the file is damaged or truncated ({size}): {" ".join(str(error).split())}'
    return ' '.join(str(error).split())
