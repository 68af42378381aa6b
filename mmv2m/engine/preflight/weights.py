"""Check of a checkpoint before it is tested: are these the weights of this model?"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmv2m.utils.meta_model import build_on_meta
from mmv2m.utils.tensors_only import load_tensors

from ..errors import UserError
from .files import check_checkpoint, is_remote

__all__ = ['check_weights']

CONVERTERS = 'tools/model_converters/official_to_mmv2m.py and released_to_mmv2m.py'
MISFIT = 'Error(s) in loading state_dict'
"""What PyTorch says of weights of another shape."""


def check_weights(cfg: Config, checkpoint: str) -> None:
    """Check that a checkpoint holds every parameter of a config's model.

    mmengine only warns of missing ones and of those of another shape, and the test of a model that
    is part random looks like any other. A model that cannot be made of shapes alone is left to the
    runner.

    Args:
        cfg: The config, its model checked already.
        checkpoint: A local file.

    Raises:
        UserError: If it is a URL, does not exist, is no checkpoint, lacks parameters or has some of
            another shape.
    """
    if is_remote(checkpoint):
        raise UserError(f'{checkpoint} must be a local file: its digest is part of the record')
    check_checkpoint(checkpoint, 'checkpoint')
    try:
        content = load_tensors(str(Path(checkpoint).expanduser()))
    except (OSError, ValueError) as error:
        raise UserError(f'checkpoint {checkpoint}: {error}') from error
    config = Path(cfg.filename).name
    try:
        model = build_on_meta(cfg)
        model = getattr(model, 'module', model)  # what test-time augmentation wraps
        missing = model.load_state_dict(_weights(content), strict=False, assign=True).missing_keys
    except Exception as error:
        heading, *problems = str(error).splitlines() or ['']
        if heading.startswith(MISFIT):
            raise UserError(f'{checkpoint} does not fit {config}: {problems[0].strip()}') from error
        return
    wanted = dict(model.named_parameters())
    lacking = [name for name in missing if name in wanted]
    if lacking:
        raise UserError(
            f'{checkpoint} lacks {len(lacking)} of the {len(wanted)} parameters of {config}, such '
            f'as {lacking[0]}; official weights are converted by {CONVERTERS}'
        )


def _weights(content: Mapping[str, Any]) -> dict[str, Any]:
    """The weights themselves, which most checkpoints hold beside other things."""
    inner = content.get('state_dict', content)
    held = inner if isinstance(inner, Mapping) else {}
    return {name.removeprefix('module.'): value for name, value in held.items()}
