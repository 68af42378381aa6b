"""Having the kernels of all stages compiled side by side, before the first stage runs."""

import logging
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from mmv2m.ops import compiling_ahead

from .door import is_watched, may_stand_for
from .stage import STAGE, Stage
from .stream import Stream

__all__ = ['compile_ahead']

MIXERS = 2
"""Blocks of a stage that are tried. The first one gets a map, all others a sum to be taken."""

TOKENS = (1, 14, 14)
"""Images, and rows and columns of their tokens. No kernel is compiled for sizes."""

LIBRARIES = ('torch', 'mmcv', 'mmengine', 'mmv2m')
"""Where classes of modules come from that may be called once more without any effect."""


def compile_ahead(
    stages: Sequence[nn.Module],
    widths: Sequence[int],
    device: torch.device,
    dtype: torch.dtype,
    args: Sequence[nn.Module] = (),
) -> None:
    """Have kernels compiled that stages launch on a GPU, which takes seconds when a cache is new.

    By itself each operator has its kernels compiled when it first runs, so that a stage would begin
    with that when the stage before is done. Here the first blocks of every stage are called with a
    small map while nothing is launched. A stage with a hook, or with a module of a class that is
    not this project's or its libraries', is left out, because it would see that call. So is one
    with a BatchNorm, whose statistics that call would change.

    Args:
        stages: The stages.
        widths: Of their maps.
        device: The GPU.
        dtype: Of the first stage's map.
        args: What a stage takes beside its map.
    """
    x = torch.empty(*TOKENS, widths[0], dtype=dtype, device=device)
    try:
        with compiling_ahead(device), torch.random.fork_rng([device] if x.is_cuda else []):
            for stage, width in zip(stages, widths, strict=False):
                if isinstance(stage, Stage) and may_stand_for(stage, x, ((stage, STAGE),)):
                    blocks = _first_blocks(stage)
                    if all(_is_unwatched(m) for block in blocks for m in block.modules()):
                        stage.advance(Stream(x), *args, blocks=blocks)
                x = torch.empty(*TOKENS, width, dtype=dtype, device=device)
    except Exception:  # it costs time only, and what is wrong shows when the stages run
        logging.getLogger('mmv2m').debug('kernels are not compiled ahead', exc_info=True)


def _first_blocks(stage: Stage) -> list[nn.Module]:
    """As many as have :data:`MIXERS` among them, and what halves the resolution in front."""
    blocks: list[nn.Module] = []
    for block in stage:
        if sum(map(stage.takes_stream, blocks)) < MIXERS:
            blocks.append(block)
    return blocks


def _is_unwatched(module: nn.Module) -> bool:
    """Whether nobody notices that a module is called, and the call leaves no traces in it."""
    return (
        type(module).__module__.partition('.')[0] in LIBRARIES
        and not is_watched(module)
        and not isinstance(module, _NormBase)
    )
