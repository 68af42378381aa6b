"""The reading of checkpoints, which runs no code and converts official weights."""

import os
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, BinaryIO
from urllib.parse import urlparse

import torch
from mmengine.logging import print_log
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import CheckpointLoader
from mmengine.runner import checkpoint as mmengine_checkpoint
from torch import nn

from .official_weights import convert_official_weights, recognise
from .tensors_only import read_pickle
from .weight_conversion import ENTRIES, find_weights

_load_as_mmengine_does = mmengine_checkpoint.load_state_dict

__all__ = ['read_checkpoint', 'read_checkpoints_safely']


def read_checkpoint(
    path: str | Path, map_location: Any = 'cpu', logger: Any = 'current'
) -> dict[str, Any]:
    """Read a local checkpoint, without running any code that the file names.

    Official weights are recognised by their names and converted, and a line of the log says so. Of
    such a file, only the weights are read, whatever else its authors' code pickled.

    Args:
        path: A file that :func:`torch.save` has written. ``~`` stands for the home folder.
        map_location: Device of the tensors, as for :func:`torch.load`.
        logger: Where the line is logged, as for :func:`mmengine.logging.print_log`.

    Returns:
        The content of the file. Weights in another entry than ``'state_dict'``, where mmengine
        looks for them, are moved there. The entry ``'meta'`` of converted weights has the name of
        their ``'family'``.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If the file is no checkpoint, holds objects that are not allowed, or holds
            official weights that cannot be converted. The message names the file.
    """
    path = os.path.expanduser(path)
    try:
        return _read(path, map_location, logger)
    except ValueError as error:
        raise ValueError(f'{path}: {error}') from error


def _read(path: str, map_location: Any, logger: Any) -> dict[str, Any]:
    content, skipped = read_pickle(path, map_location)
    try:
        weights = find_weights(content)
    except ValueError:
        weights = {}  # mmengine decides what to do with such a file
    family = recognise(weights)
    if family is not None:
        hint = "; they need geometry='released'" if family == 'v2m' else ''
        message = f'{path} holds official weights ({family}), which are converted{hint}'
        print_log(message, logger=logger)
        meta = dict(converted_from=path, family=family)
        return dict(state_dict=convert_official_weights(family, weights), meta=meta)
    if skipped:
        raise ValueError(
            f'refused, since it would make Python load {", ".join(skipped[:3])}, and a checkpoint '
            'must not run code; if you trust it, allow that by torch.serialization.add_safe_globals'
        )
    in_entry = any(content.get(name) is not None for name in ENTRIES)
    if weights and in_entry and content.get('state_dict') is None:
        return dict(content, state_dict=weights)
    return content


def read_checkpoints_safely() -> None:
    """Make mmengine read all checkpoints by :func:`read_checkpoint`, wherever they come from.

    If PyTorch refuses to run the code that a file names, mmengine's own reader runs it. That reader
    serves ``load_from``, ``init_cfg``, ``resume`` and :func:`mmengine.runner.load_checkpoint`. It
    also only warns of weights that do not fit, which the backbones of mmv2m refuse from now on. The
    change holds for the whole process. The import of ``mmv2m.models`` makes it.
    """
    CheckpointLoader.register_scheme('', load_from_local, force=True)
    # The readers of all other addresses call these functions.
    mmengine_checkpoint.load_url = _load_url
    mmengine_checkpoint._safe_torch_load = _load_file
    mmengine_checkpoint.load_state_dict = _load_state_dict


def load_from_local(filename: str, map_location: Any = 'cpu') -> dict[str, Any]:
    """Read a local file. The log of mmengine prints a part of this function's name."""
    if not os.path.isfile(os.path.expanduser(filename)):
        raise FileNotFoundError(f'{filename} can not be found.')
    return read_checkpoint(filename, map_location)


def _load_url(
    url: str,
    model_dir: str | None = None,
    map_location: Any = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Stand in for :func:`torch.hub.load_state_dict_from_url`, with the same cache."""
    folder = Path(model_dir or os.path.join(torch.hub.get_dir(), 'checkpoints'))
    file = folder / os.path.basename(urlparse(url).path)
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(file), None, progress=bool(progress))
    return read_checkpoint(file, map_location)


def _load_file(file: str | BinaryIO, map_location: Any = None, **_: Any) -> dict[str, Any]:
    """Read a file, or the bytes of one that a storage backend has fetched."""
    if isinstance(file, (str, os.PathLike)):
        return read_checkpoint(file, map_location)
    with NamedTemporaryFile(suffix='.pth') as copy:
        copy.write(file.read())
        copy.flush()
        return read_checkpoint(copy.name, map_location)


def _load_state_dict(
    module: nn.Module, state_dict: Any, strict: bool = False, logger: Any = None
) -> None:
    """Load weights as mmengine does, after mmv2m's backbones have adapted or refused them."""
    model: Any = module
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    adapted = state_dict.copy()
    if hasattr(state_dict, '_metadata'):
        adapted._metadata = state_dict._metadata
    for name, part in model.named_modules():
        if hasattr(part, 'adapt_weights'):
            part.adapt_weights(adapted, f'{name}.' if name else '')
    _load_as_mmengine_does(module, adapted, strict, logger)
