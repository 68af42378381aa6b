"""The model that a config exports, its image size and its order of channels."""

from collections.abc import Sequence

from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import load_checkpoint
from torch import nn

__all__ = ['build_model', 'image_size', 'loaded_channels']


def build_model(
    cfg: Config, checkpoint: str | None = None
) -> tuple[nn.Module, Sequence[str] | None]:
    """Build a config's model.

    Args:
        cfg: A config of mmpretrain, mmdet or mmseg.
        checkpoint: Path or URL of the weights. Without one, the model is not trained.

    Returns:
        The model, and the names of its classes, or None if the checkpoint does not have them.

    Raises:
        RuntimeError: If the checkpoint's weights do not fit the model exactly.
    """
    cfg.model.backbone.pop('init_cfg', None)  # the pretrained weights that it names are not needed
    if cfg.get('data_preprocessor') is not None:  # mmengine's Runner does the same
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmpretrain')):
        model = MODELS.build(cfg.model)
    if checkpoint is None:
        return model, None
    loaded = load_checkpoint(model, checkpoint, map_location='cpu', strict=True)
    return model, loaded.get('meta', {}).get('dataset_meta', {}).get('classes')


def image_size(cfg: Config) -> tuple[int, int]:
    """Height and width of a config's images in pixels.

    The first of these that has a size determines them: the backbone's ``img_size``, and a step of
    the test pipeline with a ``crop_size``. If none does, they are 224.
    """
    sizes = [cfg.model.backbone.get('img_size')]
    sizes += [step.get('crop_size') for step in cfg.get('test_pipeline', [])]
    size = next((one for one in sizes if one), 224)
    height, width = (size, size) if isinstance(size, int) else size
    return height, width


def loaded_channels(cfg: Config) -> str:
    """Order of the channels of a model's images, before its preprocessor swaps any.

    ``LoadImageFromFile`` gives ``'BGR'``. Datasets that bring images along, such as mmpretrain's
    CIFAR10, give ``'RGB'``.

    Args:
        cfg: A config of mmpretrain, mmdet or mmseg.
    """
    dataset = cfg.get('test_dataloader', {}).get('dataset', {})
    while 'dataset' in dataset:
        dataset = dataset.dataset
    steps = [str(step.get('type')) for step in dataset.get('pipeline', [])]
    brought_along = steps and not any('Load' in step and 'Image' in step for step in steps)
    return 'RGB' if brought_along else 'BGR'
