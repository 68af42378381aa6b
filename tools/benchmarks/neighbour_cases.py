"""The models and operators, ours and others', that neighbours.py compares.

Official code comes from clones, in folders with the names of the repositories. official_code.py
says which packages are replaced around it. Mamba2D is github.com/cocoalex00/Mamba2D at 9acb361,
2DMamba github.com/AtlasAnalyticsLab/2DMamba at 9fe12aa. nvcc compiles their CUDA code and VMamba's
at the first use, as Mamba2D does it itself. PyTorch keeps the compiled extensions.
"""

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any

import official_code
import torch
from bare_package import make_package, provide_package
from models import MODELS as OURS_AND_TIMMS
from scans_2d import MeanOfNeighbours, coupled_scan_of_means
from torch import Tensor, nn

from mmv2m.models import SS2D
from mmv2m.ops import selective_scan_fn

__all__ = ['KINDS', 'MODELS', 'OPERATORS', 'Case']

WIDTH, STATES = 384, 16
"""The operators' number of inner channels, E, and of states, N."""


@dataclass(frozen=True)
class Case:
    """A model or an operator.

    Attributes:
        build: Function that makes the module from the side of its images or maps, its clone, and
            the batch.
        clone: The folder of its repository, if it is official code.
        load: Function that imports the official code, and compiles it if ``compiles``.
        layout: Axes of an operator's input: ``'map'`` (B, H, W, D), ``'channels first'``
            (B, D, H, W), ``'sequence'`` (B, L, D), ``'scan'`` (B, D, L), or ``'scan last'``, the
            same with the channels of a token side by side.
        dtype: Dtype of an operator's input.
        width: Number of channels of an operator's input, D.
        compiles: Whether the code has CUDA files that nvcc compiles first.
    """

    build: Callable[[int, Path, int], nn.Module]
    clone: str | None = None
    load: Callable[[Path], Any] | None = None
    layout: str = 'images'
    dtype: torch.dtype = torch.bfloat16
    width: int = WIDTH // 2
    compiles: bool = False

    def prepare(self, clones: Path) -> Callable[[int, int], nn.Module]:
        """Import and compile the code, and return what builds the module from a size and a batch.

        Raises:
            FileNotFoundError: If the clone's folder does not exist.
        """
        clone = clones / (self.clone or '')
        if not clone.is_dir():
            raise FileNotFoundError(f'there is no clone {clone}')
        if self.load is not None:
            self.load(clone)
        return lambda size, batch: self.build(size, clone, batch)


def _own(name: str) -> Case:
    return Case(lambda size, *_: OURS_AND_TIMMS[name](size=(size, size)))


def _official(function: str, arch: str, folder: str, scan: bool | str = False) -> Case:
    """Return the case of an official model; ``scan`` is what its function takes for its scan."""

    def build(size: int, clone: Path, batch: int) -> nn.Module:
        sized: dict[str, Any] = dict(img_size=size) if function == 'vim' else {}
        return getattr(official_code, function)(clone, arch, scan, **sized)

    module = getattr(official_code, f'{function}_module')
    return Case(build, folder, lambda clone: module(clone, scan), compiles=scan == 'own')


class Mamba2D(nn.Module):
    """Mamba2D's M2D-T with its classifier's head, whose own class needs Lightning."""

    def __init__(self, clone: Path) -> None:
        super().__init__()
        models = _mamba2d(clone)
        self.backbone = models.Mamba2DBackbone(
            n_blocks=[3, 3, 9, 3],
            embed_dim=[64, 128, 320, 512],
            drop_path_rate=0.0,
            res_scale_init_values=[1.0] * 4,
            inter_flip=True,
        )
        self.norm = nn.LayerNorm(512)
        self.head = sys.modules['official_mamba2d.utils'].MlpHead(dim=512, n_classes=1000)
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        """Turn images (B, 3, H, W) into scores (B, 1000)."""
        return self.head(self.norm(self.backbone(x).mean((-2, -1))))


@cache
def _mamba2d(clone: Path) -> ModuleType:
    make_package('official_mamba2d', [clone / 'models'])
    return importlib.import_module('official_mamba2d.mamba2d')


@cache
def _pscan(clone: Path) -> Callable[..., Tensor]:
    """Return 2DMamba's scan; it is compiled without CMake, and with names that CUB has lost."""
    from torch.utils import cpp_extension

    kernels = clone / 'cuda_kernel'
    names = ('fwd', 'bwd', 'fwd_kernel_fp16', 'fwd_kernel_fp32', 'bwd_kernel_fp16')
    sources = [f'selective_scan/selective_scan_{n}.cu' for n in (*names, 'bwd_kernel_fp32')]
    extension = cpp_extension.load(
        name='pscan',
        sources=[str(kernels / 'src' / source) for source in ('pscan.cu', *sources)],
        extra_include_paths=[str(kernels / 'include'), *official_code.cuda_headers()],
        extra_cuda_cflags=[
            *official_code.OLDER_CUB,
            *('-O3', '--use_fast_math', '--expt-relaxed-constexpr', '--expt-extended-lambda'),
        ],
    )
    make_package('models', [clone / '2DMambaMIL' / 'models'])
    sys.modules['models'].pscan_cuda = extension
    module = importlib.import_module('models.pscan_2d')
    return module.selective_scan_fn


class Scan(nn.Module):
    """A scan of sequences, with all of its arguments but the input as parameters.

    Args:
        function: A scan with mamba_ssm's signature.
        batch: Number of sequences.
        length: Number of tokens of each sequence.
        channels_last: Whether the channels of a token lie side by side.
        dtype: Dtype of the tensors that have tokens.
    """

    def __init__(
        self,
        function: Callable[..., Tensor],
        batch: int,
        length: int,
        channels_last: bool,
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        self.function = function

        def tokens(channels: int) -> nn.Parameter:
            size = (batch, length, channels) if channels_last else (batch, channels, length)
            values = torch.randn(size).to(dtype)
            return nn.Parameter(values.transpose(1, 2) if channels_last else values)

        self.delta, self.B, self.C = tokens(WIDTH), tokens(STATES), tokens(STATES)
        self.A = nn.Parameter(-torch.arange(1.0, STATES + 1).repeat(WIDTH, 1))
        self.D = nn.Parameter(torch.ones(WIDTH))
        self.delta_bias = nn.Parameter(torch.full((WIDTH,), -4.0))

    def forward(self, u: Tensor) -> Tensor:
        """Scan sequences (B, D, L); the shape stays the same."""
        return self.function(
            *(u, self.delta, self.A, self.B, self.C, self.D),
            delta_bias=self.delta_bias,
            delta_softplus=True,
        )


def _scan(
    of: Callable[[int, Path], Callable[..., Tensor]],
    last: bool = False,
    dtype: torch.dtype = torch.bfloat16,
    **others: Any,
) -> Case:
    def build(size: int, clone: Path, batch: int) -> nn.Module:
        return Scan(of(size, clone), batch, size**2, last, dtype)

    layout = 'scan last' if last else 'scan'
    return Case(build, layout=layout, dtype=dtype, width=WIDTH, **others)


def _channels_first(*args: Tensor, **settings: Any) -> Tensor:
    """Run our scan with the layout of mamba_ssm's output, and hence of its gradient."""
    return selective_scan_fn(*args, **settings).contiguous()


def _mamba_ssm(size: int, clone: Path) -> Callable[..., Tensor]:
    if not provide_package('mamba_ssm'):
        raise ImportError('mamba_ssm is not installed')
    return importlib.import_module('mamba_ssm.ops.selective_scan_interface').selective_scan_fn


def _mamba2d_scan(clone: Path) -> Callable[..., Tensor]:
    """Run 2DMamba's scan, which has rates along columns and along rows, and two inputs B."""
    _mamba2d(clone)
    function = sys.modules['official_mamba2d.kernels.wavefront_cuda'].wf_cuda_fn_pr

    def scan(
        x: Tensor, delta: Tensor, rows: Tensor, columns: Tensor, B: Tensor, C: Tensor, D: Tensor
    ) -> Tensor:
        return function.apply(x, delta, delta, columns, rows, B, B, C, D)

    return scan


def _scan_2d(of: Callable[[Path], Callable[..., Tensor]], **others: Any) -> Case:
    def build(size: int, clone: Path, batch: int) -> nn.Module:
        return MeanOfNeighbours(of(clone), (batch, size, size), WIDTH, STATES)

    return Case(build, layout='map', width=WIDTH, **others)


def _vmamba_mixer(scan: str) -> Case:
    def load(clone: Path) -> ModuleType:
        return official_code.vmamba_module(clone, scan)

    def build(size: int, clone: Path, batch: int) -> nn.Module:
        return load(clone).SS2D(
            d_model=WIDTH // 2,
            d_state=STATES,
            ssm_ratio=2.0,
            conv_bias=False,
            forward_type='v05_noz',
            channel_first=True,
        )

    return Case(build, 'VMamba', load, layout='channels first', compiles=scan == 'own')


def _vim_mixer(stand_in: bool) -> Case:
    load = partial(official_code.vim_module, stand_in=stand_in)

    def build(size: int, clone: Path, batch: int) -> nn.Module:
        settings = dict(d_state=STATES, expand=2, bimamba_type='v2', if_divide_out=True)
        return load(clone).Mamba(WIDTH // 2, **settings)

    return Case(build, 'Vim', load, layout='sequence')


MODELS: dict[str, Case] = {
    **{name: _own(name) for name in ('V2M-S*', 'Swin-T', 'V2M-T', 'ConvNeXt-T')},
    'MambaVision-T, official': _official('mamba_vision', 'T', 'MambaVision'),
    'MambaVision-T on our scan': _official('mamba_vision', 'T', 'MambaVision', True),
    'VMamba-T': _own('VMamba-T'),
    'VMamba-T, official': _official('vmamba', 'tiny', 'VMamba', 'own'),
    'VMamba-T, official, on mamba_ssm': _official('vmamba', 'tiny', 'VMamba', 'mamba_ssm'),
    'VMamba-T on our scan': _official('vmamba', 'tiny', 'VMamba', 'stand-in'),
    'Vim-T': _own('Vim-T'),
    'Vim-T, official': _official('vim', 'tiny', 'Vim'),
    'Vim-T on our scan': _official('vim', 'tiny', 'Vim', True),
    'DeiT-T': _own('DeiT-T'),
    'Mamba2D-T, official': Case(
        lambda size, clone, batch: Mamba2D(clone), 'Mamba2D', _mamba2d, compiles=True
    ),
}
"""The models, in the order of the page."""

OPERATORS: dict[str, Case] = {
    'V2M, four corners': Case(lambda *_: SS2D(WIDTH // 2, states=STATES), layout='map'),
    'V2M, one corner': Case(
        lambda *_: SS2D(WIDTH // 2, states=STATES, corners=('UL',)), layout='map'
    ),
    'VMamba, four directions, official': _vmamba_mixer('own'),
    'VMamba, four directions, official, on mamba_ssm': _vmamba_mixer('mamba_ssm'),
    'VMamba, four directions, on our scan': _vmamba_mixer('stand-in'),
    'Vim, two directions, official': _vim_mixer(stand_in=False),
    'Vim, two directions, on our scan': _vim_mixer(stand_in=True),
    'scan: mamba_ssm': _scan(_mamba_ssm),
    'scan: selective_scan_fn, copies': _scan(lambda *_: _channels_first),
    'scan: selective_scan_fn, no copies': _scan(lambda *_: selective_scan_fn, last=True),
    'Mamba2D, one corner, official': Case(
        lambda size, clone, batch: _mamba2d(clone).M2DBlock(WIDTH, d_state=STATES),
        *('Mamba2D', _mamba2d, 'map', torch.bfloat16, WIDTH, True),
    ),
    "scan: Mamba2D's, one corner, official": _scan_2d(
        _mamba2d_scan, clone='Mamba2D', load=_mamba2d, compiles=True
    ),
    "scan: Mamba2D's by coupled_scan": _scan_2d(lambda _: coupled_scan_of_means),
    'scan: 2DMamba, official, float16': _scan(
        lambda size, clone: partial(_pscan(clone), HH=size, WW=size),
        dtype=torch.float16,  # its kernel does not take bfloat16
        **dict(clone='2DMamba', load=_pscan, compiles=True),
    ),
}
"""Mixers of 384 inner channels and 16 states with their projections, and scans alone."""

KINDS = dict(models=MODELS, operators=OPERATORS)
