"""The official dense backbones, from clones of their repositories, on a CPU.

VMamba is github.com/MzeroMiko/VMamba at 2ed52ea, Vim github.com/hustvl/Vim at dd0358a, LocalMamba
github.com/hunto/LocalMamba at 75e5d1f, PlainMamba github.com/ChenhongyiYang/PlainMamba at 0975a1d.
Their files run as they are. Packages that are missing or have changed since are replaced, and so
are the CUDA extensions (see scans_in_torch.py). A process can run only one family, because each of
the three families that build on mamba_ssm brings another version of its modules.
"""

import importlib
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import scans_in_torch
import torch
import torch.nn.functional as F
from bare_package import make_package
from mmengine.model import BaseModule, ModuleList
from official_code import _load, _provide_fvcore, _provide_timm, _put
from torch import Tensor, nn

__all__ = ['BACKBONES']


def vmamba(clone: Path, settings: dict[str, Any]) -> nn.Module:
    """Build VMamba's backbone of the Mask R-CNN and UPerNet configs (``vssm1/``).

    Args:
        clone: Of the repository.
        settings: Of the backbone, as a config has them.
    """
    _provide_timm()
    _provide_fvcore()
    folder = clone / 'classification' / 'models'
    make_package('official_vmamba', [folder])
    make_package('official_vmamba.mamba2', [folder / 'mamba2'])
    _put('official_vmamba.mamba2.ssd_minimal', selective_scan_chunk_fn=None)
    module = importlib.import_module('official_vmamba.vmamba')
    # Its cross scan names the GPU that it runs on, even on a CPU.
    torch.cuda.device = lambda device: nullcontext()
    return module.Backbone_VSSM(**_settings(settings, 'pretrained'))


def vim(clone: Path, settings: dict[str, Any]) -> nn.Module:
    """Build Vim's backbone of the UPerNet configs, with the layers that make four scales.

    Args:
        clone: Of the repository.
        settings: Of the backbone, as a config has them.
    """
    _provide_timm()
    _provide_mamba_ssm(clone / 'mamba-1p1p1/mamba_ssm/modules/mamba_simple.py')
    _load('rope', clone / 'vim/rope.py')
    _put('utils', interpolate_pos_embed=None)
    _load('models_mamba', clone / 'vim/models_mamba.py')
    _put('mmcv_custom', load_checkpoint=None)
    for name in ('mmseg', 'mmseg.models'):
        make_package(name, [])
    _put('mmseg.utils', get_root_logger=None)
    _put('mmseg.models.builder', BACKBONES=_Registry())
    module = _load('official_vim_seg', clone / 'seg/backbone/vim.py')
    # Vim passes the states and the channels by position, to arguments that have moved.
    moved = dict(in_chans=16, num_classes=3)
    backbone = module.VisionMambaSeg(**_settings(settings) | moved)
    return nn.SyncBatchNorm.convert_sync_batchnorm(backbone)


def local_vim(clone: Path, settings: dict[str, Any]) -> nn.Module:
    """Build LocalVim's backbone of the UPerNet configs.

    Args:
        clone: Of the repository.
        settings: Of the backbone, as a config has them.
    """
    _provide_timm()
    _provide_mamba_ssm(None)
    folder = clone / 'classification/lib/models'
    make_package('official_local', [folder])
    make_package('official_local.mamba', [folder / 'mamba'])
    resize = lambda x, size, mode, align_corners: F.interpolate(  # noqa: E731
        x, size, mode=mode, align_corners=align_corners
    )
    for name in ('mmseg', 'mmseg.models'):
        make_package(name, [])
    _put('mmseg.models.utils', resize=resize)
    module = importlib.import_module('official_local.local_vim')
    return module.Backbone_LocalVisionMamba(**_settings(settings, 'pretrained_ckpt'))


def plain_mamba(clone: Path, settings: dict[str, Any]) -> nn.Module:
    """Build PlainMamba's backbone of the UPerNet configs, or of the detectors with the adapter.

    Args:
        clone: Of the repository.
        settings: Of the backbone, as a config has them.
    """
    _provide_timm()
    _provide_mamba_ssm(None)
    _provide_mmcv_1()
    dev = clone / 'mmcls/plain_mamba_dev/models'
    for name in ('mmcls', 'mmcls.models', 'mmcls.models.backbones', 'mmcls.plain_mamba_dev'):
        make_package(name, [])
    for name in ('', '.modules', '.plain_mamba'):
        make_package(f'mmcls.plain_mamba_dev.models{name}', [dev / name.strip('.')])
    make_package('mmcls.models.utils', [clone / 'mmcls/models/utils'])
    embed = importlib.import_module('mmcls.models.utils.embed')
    utils = sys.modules['mmcls.models.utils']
    utils.resize_pos_embed, utils.to_2tuple = embed.resize_pos_embed, embed.to_2tuple
    _put('mmcls.models.builder', BACKBONES=_Registry())
    _put('mmcls.models.backbones.base_backbone', BaseBackbone=BaseModule)
    module = importlib.import_module('mmcls.plain_mamba_dev.models.plain_mamba.plain_mamba')
    kept = _settings(settings, 'init_cfg')
    if settings['type'] == 'PlainMamba':
        return module.PlainMamba(**kept)
    folder = clone / 'downstream/mmdetection/mmdet/models/backbones'
    for name in ('mmdet', 'mmdet.models'):
        make_package(name, [])
    _put('mmdet.models.builder', BACKBONES=_Registry())
    make_package('official_adapter', [folder])
    found = importlib.import_module('official_adapter.plain_mamba_adapter')
    modules = sys.modules['official_adapter.adapter_modules']
    modules.MultiScaleDeformableAttnFunction = _DeformableAttention
    return nn.SyncBatchNorm.convert_sync_batchnorm(found.PlainMambaAdapter(**kept))


def _settings(settings: dict[str, Any], *weights: str) -> dict[str, Any]:
    """Return a config's settings as arguments, without the type and what loads weights."""
    return {key: value for key, value in settings.items() if key not in ('type', *weights)}


BACKBONES: dict[str, Callable[..., nn.Module]] = {
    'VMamba': vmamba,
    'Vim': vim,
    'LocalMamba': local_vim,
    'PlainMamba': plain_mamba,
}
"""The functions by the names of the repositories."""


class _DeformableAttention:
    """mmcv's function for any device, in the place of its kernel for GPUs."""

    @staticmethod
    def apply(value: Tensor, shapes: Tensor, starts: Tensor, *args: Any) -> Tensor:
        from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch

        locations, weights, _ = args
        return multi_scale_deformable_attn_pytorch(value, shapes, locations, weights)


class _Registry:
    def register_module(self) -> Callable[[type], type]:
        return lambda cls: cls


def _provide_mamba_ssm(mixer: Path | None) -> None:
    """Provide mamba_ssm's names in PyTorch, and a family's own mixer if it has one."""
    for name in ('mamba_ssm', *(f'mamba_ssm.{n}' for n in ('ops', 'ops.triton', 'modules'))):
        make_package(name, [])
    make_package('mamba_ssm.utils', [])
    names = ('selective_scan_fn', 'mamba_inner_fn_no_out_proj')
    found = {name: getattr(scans_in_torch, name) for name in names}
    _put(
        'mamba_ssm.ops.selective_scan_interface',
        mamba_inner_fn=None,
        bimamba_inner_fn=None,
        **found,
    )
    names = ('RMSNorm', 'rms_norm_fn', 'layer_norm_fn')
    norms = {name: getattr(scans_in_torch, name) for name in names}
    for name in ('layernorm', 'layer_norm'):
        _put(f'mamba_ssm.ops.triton.{name}', **norms)
    _put('mamba_ssm.utils.generation', GenerationMixin=type('GenerationMixin', (), {}))
    _put('mamba_ssm.utils.hf', load_config_hf=None, load_state_dict_hf=None)
    _put('mamba_ssm.ops.triton.selective_state_update', selective_state_update=None)
    _put('causal_conv1d', causal_conv1d_fn=None, causal_conv1d_update=None)
    if mixer is not None:
        _load('mamba_ssm.modules.mamba_simple', mixer)


def _provide_mmcv_1() -> None:
    """Provide the modules of mmcv 1 that are now in mmengine."""
    import mmcv.utils
    from mmengine.utils import digit_version, to_2tuple

    make_package('mmcv.runner', [])
    sys.modules['mmcv.runner'].force_fp32 = lambda apply_to: lambda function: function
    _put('mmcv.runner.base_module', BaseModule=BaseModule, ModuleList=ModuleList)
    make_package('mmcv.cnn.utils', [])
    _put('mmcv.cnn.utils.weight_init', trunc_normal_=nn.init.trunc_normal_)
    mmcv.utils.to_2tuple, mmcv.utils.digit_version = to_2tuple, digit_version
