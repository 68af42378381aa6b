"""A stage of a backbone: blocks that run one after the other."""

from typing import Any

from mmengine.model import Sequential
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .door import Known, may_stand_for
from .mixer_block import MixerBlock
from .stream import Stream
from .v2m_block import V2MBlock

__all__ = ['STAGE', 'Stage']

BLOCK = Known((MixerBlock, V2MBlock))


class Stage(Sequential):
    """Blocks that take and return a channels-last map.

    The sum at the end of a block waits for the norm at the beginning of the next one, see
    :class:`Stream`. A block that something watches or changes, see :func:`.door.may_stand_for`, is
    called with the map.

    Args:
        *blocks: The blocks.
        with_cp: Recompute each block in the backward pass instead of keeping its activations.
    """

    def __init__(self, *blocks: nn.Module, with_cp: bool = False) -> None:
        super().__init__(*blocks)
        self.with_cp = with_cp

    def forward(self, x: Tensor, turn: nn.Module | None = None) -> Tensor:
        """(B, H, W, C) to (B, H', W', D), in at least float32.

        Args:
            x: The map.
            turn: Called with the map in front of every block, if there is one.
        """
        return self.advance(Stream(x), turn).sum()

    def advance(self, stream: Stream, turn: nn.Module | None = None) -> Stream:
        """The same as :meth:`forward`, with the last sum left to the norm that follows it."""
        for block in self:
            if turn is not None:
                stream = Stream(turn(stream.sum()))
            # Blocks that are no mixers take a map.
            if isinstance(block, MixerBlock) and may_stand_for(
                self, stream.total, ((block, BLOCK),)
            ):
                run: Any = block.advance
                given: Any = stream
            else:
                run, given = block, stream.sum()
            if self.with_cp and given.requires_grad:
                result = checkpoint(run, given, use_reentrant=False)
            else:
                result = run(given)
            stream = result if isinstance(result, Stream) else Stream(result)
        return stream


STAGE = Known((Stage,))
