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


def load_tensors(path: str) -> Any:
    """Load a checkpoint on the CPU without running any code that it names.

    Training scripts pickle their command line or their config beside the weights, whose classes
    need not be installed here: such objects come back empty.

    Args:
        path: A file that :func:`torch.save` has written.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is no checkpoint.
    """
    module = SimpleNamespace(Unpickler=_Unpickler, load=pickle.load, __name__=__name__)
    try:
        return torch.load(path, map_location='cpu', pickle_module=module, weights_only=False)
    except (pickle.UnpicklingError, RuntimeError, EOFError, AttributeError) as error:
        raise ValueError(f'not a checkpoint: {" ".join(str(error).split())}') from error
