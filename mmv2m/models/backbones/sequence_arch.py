"""The sizes of Vim and LocalVim."""

from dataclasses import dataclass

from .zoo import StagedArch, check_count

__all__ = ['SequenceArch']


@dataclass(frozen=True)
class SequenceArch(StagedArch):
    """Sizes of a plain backbone with Mamba's mixers, which has four stages at one resolution.

    Attributes:
        embed_dims: Width, D.
        depths: Blocks in each of the four stages.
        expand: Inner width over D.
        state_dims: States per channel, N.
        conv_size: Taps of the convolutions.
        dt_rank: Rank of the time step's projection; ``'auto'`` for ceil(D / 16).
    """

    expand: int = 2
    state_dims: int = 16
    conv_size: int = 4
    dt_rank: int | str = 'auto'

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dt_rank != 'auto':
            check_count('dt_rank', self.dt_rank)

    @property
    def mixer_cfg(self) -> dict:
        """The sizes as arguments of :class:`~mmv2m.models.layers.ScanMixer`."""
        return dict(
            expand=self.expand,
            states=self.state_dims,
            conv_size=self.conv_size,
            dt_rank=self.dt_rank,
            # This scale keeps the variance of the residual stream small.
            out_proj_scale=sum(self.depths) ** -0.5,
        )
