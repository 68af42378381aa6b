"""Having the kernels of all stages compiled side by side, before the first stage runs."""

import logging
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from mmv2m.ops import compiling_ahead

from .door import may_stand_for
from .stage import STAGE, Stage
from .stream import Stream

__all__ = ['compile_ahead']

BLOCKS = 2
"""Blocks of a stage that are tried. The first one gets a map, all others a sum to be taken."""

LIBRARIES = ('torch', 'mmcv', 'mmengine', 'mmv2m')
"""Where classes of modules come from that may be called once more without any effect."""


def compile_ahead(
    stages: Iterable[nn.Module], widths: Sequence[int], x: Tensor, args: Sequence[nn.Module] = ()
) -> None:
    """Have kernels compiled that stages launch on a GPU, which takes seconds when a cache is new.

    By itself each operator has its kernels compiled when it first runs, so that a stage would begin
    with that when the stage before is done. Here the first blocks of every stage are called with a
    small map while nothing is launched. A stage with a hook, or with a module of a class that is
    not this project's or its libraries', is left out, because it would see that call.

    Args:
        stages: The stages.
        widths: Of their maps.
        x: The first stage's map, (B, H, W, D), on the GPU.
        args: What a stage takes beside its map.
    """
    try:
        devices = [x.device] if x.is_cuda else []
        with compiling_ahead(x.device), torch.random.fork_rng(devices):
            for stage, width in zip(stages, widths, strict=False):
                if isinstance(stage, Stage) and may_stand_for(stage, x, ((stage, STAGE),)):
                    blocks = [block for block in stage if stage.takes_stream(block)][:BLOCKS]
                    if all(_is_unwatched(m) for block in blocks for m in block.modules()):
                        stage.run(blocks, Stream(x.new_empty(1, *x.shape[1:-1], width)), *args)
    except Exception:  # it costs time only, and what is wrong shows when the stages run
        logging.getLogger('mmv2m').debug('kernels are not compiled ahead', exc_info=True)


def _is_unwatched(module: nn.Module) -> bool:
    """Whether nobody notices that a module is called."""
    attributes = module.__dict__
    hooks = ('_forward_hooks', '_forward_pre_hooks', '_backward_hooks', '_backward_pre_hooks')
    return (
        type(module).__module__.partition('.')[0] in LIBRARIES
        and 'forward' not in attributes
        and not any(attributes[name] for name in hooks)
    )
