"""Check that a classifier's head takes what its backbone gives."""

from mmengine.config import Config

from mmv2m.utils.meta_model import build_on_meta

from ..errors import UserError

__all__ = ['check_head']


def check_head(cfg: Config) -> None:
    """Check the channels between a backbone that tells its own and a head that names its.

    Otherwise the first training step fails, in a product of matrices. A model that cannot be made
    of shapes alone is left to the runner.

    Args:
        cfg: The config, its model checked already.

    Raises:
        UserError: If the head expects other channels.
    """
    head = cfg.model.get('head')
    wanted = head.get('in_channels') if isinstance(head, dict) else None
    if cfg.model.get('neck') or not isinstance(wanted, int):
        return  # nothing to compare: detectors need not be built for it
    try:
        model = build_on_meta(cfg)
    except Exception:
        return
    given = getattr(getattr(model, 'backbone', None), 'out_channels', None)
    if isinstance(given, (list, tuple)) and wanted != given[-1]:
        raise UserError(
            f'model.head.in_channels is {wanted}, but the backbone gives {given[-1]} channels'
        )
