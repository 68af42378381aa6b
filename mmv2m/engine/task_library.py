"""The differences between the tools of mmpretrain, mmdet and mmseg."""

from argparse import Namespace
from copy import deepcopy
from typing import Any, ClassVar

from mmengine.config import Config, ConfigDict

from .errors import UserError

__all__ = ['TaskLibrary', 'task_library_of']


class TaskLibrary:
    """The behaviour of tools/train.py and tools/test.py for any library that uses mmengine."""

    dataloader_defaults: ClassVar[dict[str, Any]] = {}
    dump_metric = 'DumpResults'

    def prepare(self) -> None:
        """Set up the process before a runner is built."""

    def enable_visualization(self, cfg: Config, args: Namespace) -> None:
        """Turn on the painting of predictions, for ``--show`` and ``--show-dir``.

        Raises:
            UserError: If the config has no visualization hook, or its library's hook no interval.
        """
        if args.interval is not None:
            raise UserError('--interval works for mmpretrain only: this library paints every image')
        self._visualization_hook(cfg).update(draw=True, show=args.show, wait_time=args.wait_time)

    def enable_tta(self, cfg: Config) -> None:
        """Wrap the model and exchange the pipeline, for ``--tta``.

        Raises:
            UserError: If the config has no ``tta_model`` or ``tta_pipeline``, and the library no
                default.
        """
        for key in ('tta_model', 'tta_pipeline'):
            if key not in cfg:
                raise UserError(f'--tta needs {key} in the config')
        cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)
        _innermost_dataset(cfg.test_dataloader).pipeline = cfg.tta_pipeline

    def dump_predictions(self, cfg: Config, out: str) -> None:
        """Let the predictions be written, for ``--out``.

        Raises:
            UserError: If the library cannot write to ``out``.
        """
        if not out.endswith(('.pkl', '.pickle')):
            raise UserError(f'--out {out}: predictions go to a .pkl file')
        metric = dict(type=self.dump_metric, out_file_path=out)
        evaluator = cfg.test_evaluator
        if isinstance(evaluator, dict) and 'metrics' in evaluator:
            evaluator['metrics'] = [*_as_list(evaluator['metrics']), metric]
        else:
            cfg.test_evaluator = [*_as_list(evaluator), metric]

    @staticmethod
    def _visualization_hook(cfg: Config) -> ConfigDict:
        hook = cfg.get('default_hooks', {}).get('visualization')
        if hook is None:
            raise UserError(
                '--show and --show-dir need a visualization hook in the default_hooks of the config'
            )
        return hook


class MMPretrain(TaskLibrary):
    """mmpretrain's conventions."""

    dataloader_defaults = dict(
        pin_memory=True, persistent_workers=True, collate_fn=dict(type='default_collate')
    )

    def enable_visualization(self, cfg: Config, args: Namespace) -> None:
        """Paint every ``--interval``-th prediction.

        Raises:
            UserError: If the config has no visualization hook, or ``--tta`` is asked for too.
        """
        if args.tta:
            raise UserError(
                'mmpretrain paints single images: leave --show and --show-dir or --tta out'
            )
        self._visualization_hook(cfg).update(
            enable=True,
            show=args.show,
            wait_time=args.wait_time,
            out_dir=args.show_dir,
            interval=args.interval or 1,
        )

    def enable_tta(self, cfg: Config) -> None:
        """Average the scores of an image and its mirror image, unless the config says otherwise."""
        cfg.setdefault('tta_model', dict(type='AverageClsScoreTTA'))
        if 'tta_pipeline' not in cfg:
            *transforms, pack = deepcopy(_innermost_dataset(cfg.test_dataloader).pipeline)
            cfg.tta_pipeline = [*transforms, _flip_and_pack(pack)]
        super().enable_tta(cfg)


class MMDet(TaskLibrary):
    """mmdet's conventions."""

    dump_metric = 'DumpDetResults'

    def prepare(self) -> None:
        """Limit the recompilations of torch.compile as mmdet's tools do."""
        from mmdet.utils import setup_cache_size_limit_of_dynamo

        setup_cache_size_limit_of_dynamo()

    def enable_visualization(self, cfg: Config, args: Namespace) -> None:
        """Paint every prediction. ``--show-dir`` lies below the folder of the run."""
        super().enable_visualization(cfg, args)
        if args.show_dir:
            self._visualization_hook(cfg).test_out_dir = args.show_dir

    def enable_tta(self, cfg: Config) -> None:
        """Merge the boxes of an image and its mirror image, unless the config says otherwise.

        Raises:
            UserError: If the model predicts masks, which mmdet cannot merge.
        """
        nms = dict(type='nms', iou_threshold=0.5)
        cfg.setdefault(
            'tta_model', dict(type='DetTTAModel', tta_cfg=dict(nms=nms, max_per_img=100))
        )
        predicts_masks = 'mask_head' in cfg.model or 'mask_head' in cfg.model.get('roi_head', {})
        if predicts_masks and cfg.tta_model.type == 'DetTTAModel':
            raise UserError(
                "mmdet's test-time augmentation merges boxes only, and this model predicts masks "
                'too: leave --tta out'
            )
        if 'tta_pipeline' not in cfg:
            *transforms, pack = deepcopy(_innermost_dataset(cfg.test_dataloader).pipeline)
            # The merging needs to know which inputs were flipped.
            default = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
            keys = dict.fromkeys((*pack.get('meta_keys', default), 'flip', 'flip_direction'))
            pack.meta_keys = tuple(keys)
            cfg.tta_pipeline = [*transforms, _flip_and_pack(pack)]
        super().enable_tta(cfg)


class MMSeg(TaskLibrary):
    """mmseg's conventions."""

    def enable_visualization(self, cfg: Config, args: Namespace) -> None:
        """Paint every prediction."""
        super().enable_visualization(cfg, args)
        if args.show_dir:
            cfg.visualizer.save_dir = args.show_dir

    def dump_predictions(self, cfg: Config, out: str) -> None:
        """Let mmseg's metrics write the predicted maps as images to the folder ``out``."""
        evaluator: Any = cfg.test_evaluator
        nested = isinstance(evaluator, dict) and 'metrics' in evaluator
        for metric in _as_list(evaluator.metrics if nested else evaluator):
            metric.update(output_dir=out, keep_results=True)


LIBRARIES: dict[str, type[TaskLibrary]] = dict(mmpretrain=MMPretrain, mmdet=MMDet, mmseg=MMSeg)


def task_library_of(cfg: Config) -> TaskLibrary:
    """The conventions of the library that the config's ``default_scope`` names."""
    return LIBRARIES.get(cfg.get('default_scope'), TaskLibrary)()


def _innermost_dataset(loader: ConfigDict) -> ConfigDict:
    dataset = loader.dataset
    while 'dataset' in dataset:
        dataset = dataset.dataset
    return dataset


def _flip_and_pack(pack: ConfigDict) -> dict:
    # The unchanged image comes first, because pictures show the first view.
    flips = [dict(type='RandomFlip', prob=0.0), dict(type='RandomFlip', prob=1.0)]
    return dict(type='TestTimeAug', transforms=[flips, [pack]])


def _as_list(value: Any) -> list:
    return list(value) if isinstance(value, (list, tuple)) else [value]
