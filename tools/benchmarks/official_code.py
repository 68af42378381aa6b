"""The official Vim, VMamba and MambaVision, from clones of their repositories, on today's packages.

Vim is github.com/hustvl/Vim at dd0358a, VMamba github.com/MzeroMiko/VMamba at 2ed52ea, MambaVision
github.com/NVlabs/MambaVision at 7860a50. Their files run as they are, on the CUDA extensions of the
installed mamba_ssm and causal_conv1d, or on our stand-in for both. Packages that are missing or
have changed since are replaced. Only the files in :data:`FILES` are needed from a clone. A process
can have only one version of mamba_ssm's modules; after :func:`vim`, it has Vim's.
"""

import importlib
import importlib.util
import sys
import warnings
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from bare_package import make_package, provide_package
from torch import Tensor, nn

from mmv2m.ops import mamba_ssm_stand_in

__all__ = [
    'OLDER_CUB',
    'cuda_headers',
    'mamba_vision',
    'mamba_vision_module',
    'vim',
    'vim_module',
    'vmamba',
    'vmamba_module',
]

FILES = {
    'vim': (
        'vim/models_mamba.py',
        'vim/rope.py',
        'mamba-1p1p1/mamba_ssm/modules/mamba_simple.py',
        'mamba-1p1p1/mamba_ssm/ops/selective_scan_interface.py',
    ),
    'vmamba': tuple(
        f'classification/models/{name}.py' for name in ('vmamba', 'csms6s', 'csm_triton')
    ),
    'mamba_vision': ('mambavision/models/mamba_vision.py', 'mambavision/models/registry.py'),
}
"""The files that are read from the clones."""

VIM = 'vim_{}_patch16_224_bimambav2_final_pool_mean_abs_pos_embed_with_midclstok_div2'
VMAMBA = {'tiny': 'vmamba_tiny_s1l8', 'small': 'vmamba_small_s2l15'}


def vim(clone: Path, arch: str, stand_in: bool = False, **settings: Any) -> nn.Module:
    """Build the official Vim with the class token in the middle, without drop path.

    Args:
        clone: Of the repository.
        arch: ``'tiny'`` or ``'small'``.
        stand_in: Whether it runs on our stand-in for mamba_ssm.
        settings: Settings of the model.
    """
    return getattr(vim_module(clone, stand_in), VIM.format(arch))(drop_path_rate=0.0, **settings)


def vmamba(clone: Path, arch: str, scan: str = 'mamba_ssm') -> nn.Module:
    """Build the official VMamba as last published, without drop path.

    Args:
        clone: Of the repository.
        arch: ``'tiny'`` or ``'small'``.
        scan: The scan that it runs on: ``'mamba_ssm'``, its ``'own'``, which nvcc compiles, or our
            ``'stand-in'``.
    """
    model = getattr(vmamba_module(clone, scan), VMAMBA[arch])()
    for module in model.modules():
        if type(module).__name__ == 'DropPath':
            module.drop_prob = 0.0
    return model


def mamba_vision(clone: Path, arch: str, stand_in: bool = False) -> nn.Module:
    """Build the official MambaVision without drop path.

    Args:
        clone: Of the repository.
        arch: ``'T'``, ``'S'`` or another that its functions end with.
        stand_in: Whether it runs on our stand-in for mamba_ssm.
    """
    module = mamba_vision_module(clone, stand_in)
    return getattr(module, f'mamba_vision_{arch}')(drop_path_rate=0.0)


@cache
def vim_module(clone: Path, stand_in: bool) -> ModuleType:
    """Import models_mamba.py, with Vim's own mixer and scan in the place of mamba_ssm's."""
    models, rope, mixer, scans = (clone / name for name in FILES['vim'])
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        _provide_timm()
        if stand_in:
            mamba_ssm_stand_in.install()
        _provide_mamba_ssm()
        if not stand_in:
            interface = _load('mamba_ssm.ops.selective_scan_interface', scans)
            interface.causal_conv1d_cuda = _causal_conv1d_as_in_1_1()
        _load('mamba_ssm.modules.mamba_simple', mixer)
        _load('rope', rope)
        module = _load('official_vim', models)
    if module.rms_norm_fn is None:
        raise ImportError('the fused RMSNorm of mamba_ssm cannot be imported')
    return module


@cache
def vmamba_module(clone: Path, scan: str) -> ModuleType:
    """Import vmamba.py, whose scans take mamba_ssm's extension, VMamba's own or our stand-in."""
    folder = (clone / FILES['vmamba'][0]).parent
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        if scan == 'stand-in':
            mamba_ssm_stand_in.install()
        if scan == 'own':
            _compile_scan(clone / 'kernels' / 'selective_scan' / 'csrc' / 'selective_scan')
        _provide_timm()
        _provide_fvcore()
        make_package('official_vmamba', [folder])
        make_package('official_vmamba.mamba2', [folder / 'mamba2'])
        # These are Mamba-2's modules, which the two models do not use.
        _put('official_vmamba.mamba2.ssd_minimal', selective_scan_chunk_fn=None)
        module = importlib.import_module('official_vmamba.vmamba')
    scans = sys.modules['official_vmamba.csms6s']
    oflex = scan != 'mamba_ssm'
    if oflex != scans.WITH_SELECTIVESCAN_OFLEX or not (oflex or scans.WITH_SELECTIVESCAN_MAMBA):
        raise ImportError(f'VMamba does not run on the scan {scan}')
    return module


OLDER_CUB = ('-include', str(Path(__file__).with_name('older_cub.cuh')))
"""Definitions for nvcc of names that CUB lost with CUDA 13."""


def _compile_scan(folder: Path) -> None:
    """Compile VMamba's own extension, with the settings of its setup.py that matter."""
    from torch.utils import cpp_extension

    halves = [f'-U__CUDA_NO_{kind}__' for kind in ('HALF_OPERATORS', 'HALF_CONVERSIONS')]
    files = ('selective_scan_oflex.cpp', 'selective_scan_core_fwd.cu', 'selective_scan_core_bwd.cu')
    name = 'selective_scan_cuda_oflex'
    sys.modules[name] = cpp_extension.load(
        name=name,
        sources=[str(folder / 'cusoflex' / file) for file in files],
        extra_include_paths=[str(folder), *cuda_headers()],
        extra_cflags=['-O3'],
        extra_cuda_cflags=[
            *('-O3', '--use_fast_math', '--expt-relaxed-constexpr', '--expt-extended-lambda'),
            *(*halves, *OLDER_CUB),
        ],
    )


@cache
def mamba_vision_module(clone: Path, stand_in: bool) -> ModuleType:
    """Import mamba_vision.py."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        _provide_timm()
        if stand_in:
            mamba_ssm_stand_in.install()
        elif not provide_package('mamba_ssm'):
            raise ImportError('mamba_ssm is not installed')
        make_package('official_mamba_vision', [(clone / FILES['mamba_vision'][0]).parent])
        return importlib.import_module('official_mamba_vision.mamba_vision')


def cuda_headers() -> list[str]:
    """Return folders in PyTorch's packages with headers for ATen, if the CUDA toolkit has none."""
    from torch.utils.cpp_extension import CUDA_HOME

    if CUDA_HOME is not None and (Path(CUDA_HOME) / 'include' / 'cusparse.h').exists():
        return []
    packages = Path(torch.__file__).parents[1] / 'nvidia'
    return [str(header.parent) for header in packages.glob('*/include/cusparse.h')]


def _put(name: str, **content: Any) -> ModuleType:
    """Make a module that can be imported by its name from now on."""
    module = sys.modules[name] = ModuleType(name)
    vars(module).update(content)
    return module


def _load(name: str, path: Path) -> ModuleType:
    """Load a file as a module that can be imported by its name from now on."""
    spec = importlib.util.spec_from_file_location(name, path)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _provide_mamba_ssm() -> None:
    """Provide mamba_ssm, and empty stand-ins for its modules that need transformers."""
    if not provide_package('mamba_ssm'):
        raise ImportError('mamba_ssm is not installed')
    _put('mamba_ssm.utils.generation', GenerationMixin=type('GenerationMixin', (), {}))
    _put('mamba_ssm.utils.hf', load_config_hf=None, load_state_dict_hf=None)
    _put('mamba_ssm.ops.triton.selective_state_update', selective_state_update=None)


def _provide_timm() -> None:
    """Provide names that newer versions of timm have dropped."""
    import timm.layers
    import timm.models
    from timm.models import vision_transformer

    moved = {'timm.models.layers': timm.layers, 'timm.models.registry': timm.models}
    for old, new in moved.items():
        try:
            importlib.import_module(old)
        except ImportError:
            sys.modules[old] = new
    for name in ('_cfg', '_load_weights'):
        if not hasattr(vision_transformer, name):
            setattr(vision_transformer, name, lambda *args, **kwargs: {})


def _provide_fvcore() -> None:
    """Provide an empty fvcore, with which VMamba counts FLOPs."""
    try:
        importlib.import_module('fvcore.nn')
    except ImportError:
        names = ('FlopCountAnalysis', 'flop_count_str', 'flop_count', 'parameter_count')
        _put('fvcore', nn=_put('fvcore.nn', **dict.fromkeys(names)))


def _causal_conv1d_as_in_1_1() -> SimpleNamespace:
    """Return the extension's functions as Vim calls them; in 1.7, they write to given tensors."""
    import causal_conv1d_cuda as extension

    def forward(
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        seq_idx: None,
        initial_states: None,
        final_states: None,
        silu: bool,
    ) -> Tensor:
        out = torch.empty_like(x)
        extension.causal_conv1d_fwd(
            x, weight, bias, seq_idx, initial_states, out, final_states, silu
        )
        return out

    def backward(
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        dout: Tensor,
        seq_idx: None,
        initial_states: None,
        dfinal_states: None,
        dx: Tensor | None,
        return_dinitial_states: bool,
        silu: bool,
    ) -> tuple[Tensor, Tensor, Tensor, None]:
        dx = torch.empty_like(x) if dx is None else dx
        dweight, dbias = (torch.zeros_like(p, dtype=torch.float32) for p in (weight, bias))
        states = (seq_idx, initial_states, dfinal_states)
        extension.causal_conv1d_bwd(x, weight, bias, dout, *states, dx, dweight, dbias, None, silu)
        return dx, dweight.type_as(weight), dbias.type_as(bias), None

    return SimpleNamespace(causal_conv1d_fwd=forward, causal_conv1d_bwd=backward)
