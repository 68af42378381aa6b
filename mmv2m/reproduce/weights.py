"""Check of a user's checkpoint before it is tested: are these the weights of this model?"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmv2m.engine.errors import UserError
from mmv2m.engine.preflight.files import check_checkpoint, is_remote
from mmv2m.utils.meta_model import build_on_meta
from mmv2m.utils.tensors_only import load_tensors

__all__ = ['check_weights']

CONVERTERS = 'tools/model_converters/official_to_mmv2m.py and released_to_mmv2m.py'


def check_weights(cfg: Config, checkpoint: str) -> None:
    """Check that a checkpoint holds every parameter of a config's model.

    mmengine only warns of missing ones, and the test of a model that is part random looks like any
    other.

    Args:
        cfg: The config.
        checkpoint: A local file.

    Raises:
        UserError: If it is a URL, does not exist, is no checkpoint, or lacks parameters.
    """
    if is_remote(checkpoint):
        raise UserError(f'{checkpoint} must be a local file: its digest is part of the record')
    check_checkpoint(checkpoint, 'checkpoint')
    try:
        content = load_tensors(checkpoint)
    except (OSError, ValueError) as error:
        raise UserError(f'checkpoint {checkpoint}: {error}') from error
    held = {name.removeprefix('module.') for name in _weights(content)}
    wanted = [name for name, _ in build_on_meta(cfg).named_parameters()]
    missing = [name for name in wanted if name not in held]
    if missing:
        raise UserError(
            f'{checkpoint} lacks {len(missing)} of the {len(wanted)} parameters of '
            f'{Path(cfg.filename).name}, such as {missing[0]}; official weights are converted by '
            f'{CONVERTERS}'
        )


def _weights(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """The weights themselves, which most checkpoints hold beside other things."""
    inner = content.get('state_dict', content)
    return inner if isinstance(inner, Mapping) else {}
