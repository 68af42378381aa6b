"""A stage of a backbone: blocks that run one after the other."""

from collections.abc import Callable, Iterable
from typing import Any, TypeGuard

import torch
from mmengine.model import Sequential
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .door import Known, may_stand_for, unchanged
from .mixer_block import MixerBlock
from .patches import Downsample
from .stream import Stream
from .v2m_block import V2MBlock

__all__ = ['STAGE', 'Stage']

BLOCK = Known(unchanged(MixerBlock, V2MBlock))
DOWNSAMPLE = Known(unchanged(Downsample))


class Stage(Sequential):
    """Blocks that take and return a channels-last map.

    The norm at the beginning of a block computes the sum at the end of the block in front; see
    :class:`Stream`. A block for which :func:`.door.may_stand_for` is False, because something
    watches or changes it, is called with the map.

    Args:
        *blocks: The blocks.
        with_cp: Recompute each block in the backward pass instead of keeping its activations.
    """

    def __init__(self, *blocks: nn.Module, with_cp: bool = False) -> None:
        super().__init__(*blocks)
        self.with_cp = with_cp

    def forward(
        self, x: Tensor, turn: nn.Module | None = None, with_branch: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Turn (B, H, W, C) into (B, H', W', D), in at least float32.

        Args:
            x: The map.
            turn: A module that is called with the map in front of every block.
            with_branch: Whether to return also what the last block's mixer adds to the map, before
                stochastic depth. The last block has to be a :class:`MixerBlock` then.
        """
        if not with_branch:
            return self.advance(Stream(x), turn).sum()
        *blocks, last = self
        x = self.advance(Stream(x), turn, blocks=blocks).sum()
        return self._checkpointed(last, x if turn is None else turn(x), True)

    def advance(
        self,
        stream: Stream,
        turn: nn.Module | None = None,
        *,
        blocks: Iterable[nn.Module] | None = None,
    ) -> Stream:
        """Compute the same as :meth:`forward`, but leave the last sum to the norm that follows it.

        Args:
            stream: The residual stream in front of the first block.
            turn: See :meth:`forward`.
            blocks: The blocks that run. Defaults to all blocks of the stage.
        """
        for block in self if blocks is None else blocks:
            if turn is not None:
                stream = Stream(turn(stream.sum()))
            if self.takes_stream(block) and may_stand_for(self, stream.total, ((block, BLOCK),)):
                stream = self._checkpointed(block.advance, stream)
            else:
                x = stream.sum(self._dtype_read(block, stream))
                stream = Stream(self._checkpointed(block, x))
        return stream

    def _dtype_read(self, block: nn.Module, stream: Stream) -> torch.dtype | None:
        """The dtype to which a block casts any map that it gets, or None if it is not known."""
        if isinstance(block, Downsample) and may_stand_for(
            self, stream.total, ((block, DOWNSAMPLE),)
        ):
            return block.dtype_read(stream.total)
        return None

    @staticmethod
    def takes_stream(block: nn.Module) -> TypeGuard[MixerBlock]:
        """Whether a block can leave its last sum to the next one, instead of taking a map."""
        return isinstance(block, MixerBlock)

    def _checkpointed(self, run: Callable[..., Any], x: Stream | Tensor, *args: Any) -> Any:
        if self.with_cp and x.requires_grad:
            return checkpoint(run, x, *args, use_reentrant=False)
        return run(x, *args)


STAGE = Known(unchanged(Stage))
