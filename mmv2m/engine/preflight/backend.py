"""Check of the scan backends that a config asks for by name."""

import torch
from mmengine.config import Config
from mmengine.device import get_device

from mmv2m.ops import can_run

from ..errors import UserError
from .model import model_parts

__all__ = ['check_backend']


def check_backend(cfg: Config) -> None:
    """Check that the model's scan backends run here, where that can be said without a GPU.

    A GPU is not asked: doing so would open it in every process of a distributed run.

    Args:
        cfg: The whole config, its model checked already.

    Raises:
        UserError: If there is no GPU and a part's ``scan_backend`` needs one; says what would do.
    """
    if get_device() != 'cpu':
        return
    for where, part, _ in model_parts(cfg):
        backend = part.get('scan_backend', 'auto')
        if backend == 'auto':
            continue
        try:
            can_run(backend, torch.empty(0), raise_error=True)
        except RuntimeError as error:
            raise UserError(f"{where}: {error}; scan_backend='auto' takes what runs") from error
