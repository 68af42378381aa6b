"""Loading what tensors a checkpoint holds, whatever else was pickled beside them."""

import pickle
from types import SimpleNamespace
from typing import Any

import torch

__all__ = ['load_tensors']


class _Opaque(dict):
    """Stands for an object of a class that is not loaded; takes all it is given, keeps nothing."""

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


class _Unpickler(pickle.Unpickler):
    """Finds what tensors are made of; in the place of anything else stands :class:`_Opaque`."""

    def find_class(self, module: str, name: str) -> Any:
        rebuilds = module == 'torch._utils' and name.startswith('_rebuild_')
        plain = (module, name) in (('collections', 'OrderedDict'), ('torch', 'Size'))
        if rebuilds or plain or (module == 'torch' and _is_dtype(name)):
            return super().find_class(module, name)
        return _Opaque


def _is_dtype(name: str) -> bool:
    return isinstance(getattr(torch, name, None), torch.dtype)


def load_tensors(path: str) -> dict[str, Any]:
    """Load a checkpoint on the CPU without running any code that it names.

    Training scripts pickle their command line or their config beside the weights, whose classes
    need not be installed here: such objects come back empty.

    Args:
        path: A file that :func:`torch.save` has written.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is no checkpoint, or one that holds something else than a dict.
    """
    module = SimpleNamespace(Unpickler=_Unpickler, load=pickle.load, __name__=__name__)
    try:
        content = torch.load(path, map_location='cpu', pickle_module=module, weights_only=False)
    except OSError:
        raise
    except Exception as error:
        # Bytes that are no pickle may say anything to the unpickler, which fails as they have it.
        raise ValueError(f'not a checkpoint: {" ".join(str(error).split())}') from error
    if not isinstance(content, dict):
        raise ValueError(f'a checkpoint is a dict, but this file holds a {type(content).__name__}')
    return content
