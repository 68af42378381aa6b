"""The trainings that are timed, and how their configs are changed for that."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import machine  # noqa: F401  # this clone comes first on the path
from mmengine.config import Config

from mmv2m.engine.config import switch_amp

__all__ = ['TRAINED', 'Trained', 'trained_config']

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
SQUARE = ((224, 224),)
COCO_SIZES = ((480, 640), (608, 800), (672, 1024), (800, 608), (800, 1088), (800, 1216))
"""H and W in pixels of padded batches of two of COCO's images, scaled to 480 to 800 pixels on the
shorter side. The paddings go to multiples of 32."""
SEGMENTED = ((512, 512),)
GRAPHS = 'CUDAGraphHook'


@dataclass(frozen=True)
class Trained:
    """A training.

    Attributes:
        config: Path in configs/, or ``library::`` and the path in that library.
        task: ``'classification'``, ``'detection'`` or ``'segmentation'``.
        batch: Number of images in a batch.
        sizes: H and W of the batches in pixels, which take turns.
    """

    config: str
    task: str = 'classification'
    batch: int = 64
    sizes: tuple[tuple[int, int], ...] = SQUARE


def _mask_rcnn(name: str) -> Trained:
    return Trained(f'{name}_1x_coco.py', 'detection', 2, COCO_SIZES)


def _upernet(name: str) -> Trained:
    return Trained(f'{name}_8xb2-160k_ade20k-512x512.py', 'segmentation', 2, SEGMENTED)


TRAINED: Mapping[str, Trained] = {
    'V2M-T': Trained('v2m-t_8xb64_in1k.py'),
    'V2M-S': Trained('v2m-s_8xb64_in1k.py'),
    'V2M-S*': Trained('v2m-s-star_8xb64_in1k.py'),
    'Swin-T': Trained('baselines/swin-t_16xb64_in1k.py'),
    'V2M-B*': Trained('v2m-b-star_8xb64_in1k.py'),
    'Swin-S': Trained('baselines/swin-s_16xb64_in1k.py'),
    'VMamba-T': Trained('baselines/vmamba-t_8xb128_in1k.py'),
    'VMamba-S': Trained('baselines/vmamba-s_8xb128_in1k.py'),
    'Vim-T': Trained('baselines/vim-t_8xb128_in1k.py'),
    'Vim-S': Trained('baselines/vim-s_8xb64_in1k.py'),
    'ConvNeXt-T': Trained('mmpretrain::convnext/convnext-tiny_32xb128_in1k.py'),
    'DeiT-T': Trained('baselines/deit-t_4xb256_in1k.py'),
    'DeiT-S': Trained('baselines/deit-s_4xb256_in1k.py'),
    'Mask R-CNN V2M-S*': _mask_rcnn('mask-rcnn_v2m-s'),
    'Mask R-CNN VMamba-T': _mask_rcnn('baselines/mask-rcnn_vmamba-t'),
    'Mask R-CNN Swin-T': _mask_rcnn('baselines/mask-rcnn_swin-t'),
    'UPerNet V2M-T': _upernet('upernet_v2m-t'),
    'UPerNet V2M-S*': _upernet('upernet_v2m-s-star'),
    'UPerNet Swin-T': _upernet('baselines/upernet_swin-t'),
}
"""The trainings by name; each V2M is followed by the models that it is compared with."""

OURS = {
    'classification': 'v2m-s-star_8xb64_in1k.py',
    'detection': 'mask-rcnn_v2m-s_1x_coco.py',
    'segmentation': 'upernet_v2m-s-star_8xb2-160k_ade20k-512x512.py',
}
"""For each task, the config that gives its parameter groups, graphs, log and preprocessing."""


def trained_config(trained: Trained, stock: bool, graphs: bool | None, amp: bool) -> Config:
    """Return the config of a training as it is timed.

    Args:
        trained: The training.
        stock: Whether to leave out what this project adds to mmengine.
        graphs: Whether to train with CUDA graphs. None does so as our configs do.
        amp: Whether to train in mixed precision, for which there must be a GPU.
    """
    cfg = _load(trained.config)
    ours = _load(OURS[trained.task])
    _treat(cfg, ours, stock)
    wanted = graphs if graphs is not None else not stock and any(map(_is_graphs, _hooks(ours)))
    cfg.custom_hooks = [hook for hook in _hooks(cfg) if not _is_graphs(hook)]
    if wanted:
        cfg.custom_hooks.append(dict(type=GRAPHS))
    if amp and trained.task == 'classification':
        cfg.optim_wrapper.dtype = 'bfloat16'
    if amp and stock:
        cfg.optim_wrapper.loss_scale = 'dynamic'
    switch_amp(cfg, amp)
    return cfg


def _load(name: str) -> Config:
    if '::' in name:
        return Config.fromstring(f"_base_ = '{name}'", '.py')
    return Config.fromfile(CONFIGS / name)


def _hooks(cfg: Config) -> list[dict]:
    return cfg.get('custom_hooks') or []


def _is_graphs(hook: dict) -> bool:
    return hook['type'].split('.')[-1] == GRAPHS


def _treat(cfg: Config, ours: Config, stock: bool) -> None:
    """Give a config our parameter groups, optimizer settings, log and preprocessing, or none."""
    cfg.custom_imports = deepcopy(ours.custom_imports)
    wrapper, optimizer = cfg.optim_wrapper, cfg.optim_wrapper.optimizer
    _take(wrapper, ours.optim_wrapper, 'constructor', stock)
    if optimizer.type == ours.optim_wrapper.optimizer.type:
        for name in ('fused', 'foreach'):
            _take(optimizer, ours.optim_wrapper.optimizer, name, stock)
    hooks = cfg.setdefault('default_hooks', {})
    _take(hooks, ours.default_hooks, 'runtime_info', stock)
    if cfg.get('data_preprocessor') and ours.get('data_preprocessor'):
        _take(cfg.data_preprocessor, ours.data_preprocessor, 'type', stock)


def _take(settings: dict, ours: dict, name: str, stock: bool) -> None:
    settings.pop(name, None)
    if not stock and name in ours:
        settings[name] = ours[name]
