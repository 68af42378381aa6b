"""The scans of each block of LocalVim (https://arxiv.org/abs/2403.09338), which a search found.

Scans have the names of LocalVim's published configuration. ``h`` walks row by row, and ``v`` column
by column. ``w2`` and ``w7`` walk window by window, through windows of 2 x 2 and 7 x 7 tokens.
``_flip`` walks the same way backwards.
"""

__all__ = ['LOCAL_SCANS']

_SEARCHED = (
    'h v_flip w7 w7_flip',
    'h_flip w2_flip w7 w7_flip',
    'h h_flip v w7',
    'h h_flip v v_flip',
    'h h_flip v v_flip',
    'h h_flip v v_flip',
    'h_flip v v_flip w7',
    'h_flip v v_flip w2_flip',
    'h h_flip v v_flip',
    'h h_flip v v_flip',
    'h v v_flip w2',
    'h v v_flip w2_flip',
    'h h_flip v_flip w7',
    'h_flip v v_flip w2',
    'h h_flip v v_flip',
    'h v w2 w2_flip',
    'v v_flip w2 w7',
    'h h_flip v w2',
    'h h_flip w2_flip w7',
    'v v_flip w2 w2_flip',
)

LOCAL_SCANS: dict[str, tuple[tuple[str, ...], ...]] = dict.fromkeys(
    ('tiny', 'small'), tuple(tuple(block.split()) for block in _SEARCHED)
)
"""The four scans of each of the 20 blocks, by the model's size. The published T and S are equal."""
