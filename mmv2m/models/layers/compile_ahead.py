"""Compilation of the kernels of all stages, side by side, before the first stage runs."""

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
"""Number of mixer blocks per stage that are called.

The first block gets a map, and all others a map and a branch to be added to it. So two blocks show
all kernels.
"""

TOKENS = (1, 14, 14)
"""Images, rows and columns of the map that is tried. No kernel is compiled for particular sizes."""

LIBRARIES = ('torch', 'mmcv', 'mmengine', 'mmv2m')
"""Packages whose modules may be called once more without side effects."""


def compile_ahead(
    stages: Sequence[nn.Module],
    widths: Sequence[int],
    device: torch.device,
    dtype: torch.dtype,
    args: Sequence[nn.Module] = (),
) -> None:
    """Compile the kernels that stages launch on a GPU, which takes seconds with an empty cache.

    Without this, each operator compiles its kernels when it first runs, so a stage would start to
    compile only when the stage in front of it is done. Here, the first blocks of every stage are
    called with a small map, and no kernel is launched. Some stages are left out, because the call
    would have side effects: stages with a hook or with a module that is neither this project's nor
    one of :data:`LIBRARIES`, and stages with a BatchNorm, whose statistics the call would change.

    Args:
        stages: The stages.
        widths: Width of each stage's map.
        device: The GPU.
        dtype: Dtype of the first stage's map.
        args: Further arguments of every stage, besides its map.
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
    except Exception:  # a failure costs only time: a real fault shows again when the stages run
        logging.getLogger('mmv2m').debug('kernels are not compiled ahead', exc_info=True)


def _first_blocks(stage: Stage) -> list[nn.Module]:
    """The first blocks of a stage, up to :data:`MIXERS` mixer blocks, with any downsampling."""
    blocks: list[nn.Module] = []
    for block in stage:
        if sum(map(stage.takes_stream, blocks)) < MIXERS:
            blocks.append(block)
    return blocks


def _is_unwatched(module: nn.Module) -> bool:
    """Whether a call of a module has no side effects."""
    return (
        type(module).__module__.partition('.')[0] in LIBRARIES
        and not is_watched(module)
        and not isinstance(module, _NormBase)
    )
