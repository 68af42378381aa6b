"""Every config in configs/: it loads, builds, has the printed size, and its parts fit together."""

from contextlib import contextmanager
from copy import deepcopy
from functools import cache
from pathlib import Path

import pytest
from mmengine.dataset import Compose
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, MODELS, DefaultScope

from mmv2m.engine import ForeachExponentialMovingAverage
from mmv2m.engine.preflight.model import check_model
from mmv2m.engine.preflight.registered import require_class
from mmv2m.reproduce.published import extra_rows, load_published
from mmv2m.reproduce.report import row_config
from mmv2m.reproduce.tables import load_tables
from mmv2m.reproduce.zoo.metafiles import read_costs
from mmv2m.utils.complexity import measure_complexity
from mmv2m.utils.meta_model import build_on_meta, forward_without_annotations

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
NAMES = sorted(
    str(path.relative_to(CONFIGS).with_suffix(''))
    for path in CONFIGS.rglob('*.py')
    if '_base_' not in path.parts
)
# Arms of a study are no models of the zoo.
IN_ZOO = [name for name in NAMES if not name.startswith('studies/')]
TABLES = load_tables(CONFIGS / 'tables.yml')
# Configs that are here only for weights that others publish have rows of their own.
PUBLISHED = extra_rows(load_published(CONFIGS / 'pretrained.yml', TABLES), TABLES)
ROWS = TABLES.by_config() | PUBLISHED
COSTS = read_costs(CONFIGS.parent)
# Of those, one of each kind: measuring takes seconds, and others differ by sizes only.
FIRST = {
    *('mask-rcnn_plain-mamba-l1_1x_coco', 'retinanet_plain-mamba-l1_1x_coco'),
    *('vmamba-b_8xb128_in1k', 'vim-t-plus_8xb128_in1k'),
    'upernet_plain-mamba-l1_8xb2-160k_ade20k-512x512',
}
MEASURED = [name for name in IN_ZOO if f'{name}.py' not in PUBLISHED or Path(name).stem in FIRST]
# Baselines on small data, and the config of V2M that they share everything but the model with.
BESIDE_V2M = {
    'mask-rcnn_r50_1xb8-24e_nuclei': 'mask-rcnn_v2m-s_1xb8-24e_nuclei',
    'mask-rcnn_swin-t_1xb8-24e_nuclei': 'mask-rcnn_v2m-s_1xb8-24e_nuclei',
    'upernet_r50_1xb16-1k_camvid': 'upernet_v2m-s-star_1xb16-1k_camvid',
    'upernet_swin-t_1xb16-1k_camvid': 'upernet_v2m-s-star_1xb16-1k_camvid',
}
# mmdet's own constructor has the layers of ConvNeXt by their names.
BY_MMDET = {'convnext-t': (0.95, 6), 'convnext-s': (0.7, 12)}
# Parameters of more than one axis that do not decay.
SPARED = ('A_log', 'pos_embed', 'class_token', 'direction_embed', 'level_embed')


def config(name):
    return row_config(CONFIGS / f'{name}.py')


@contextmanager
def scope(name):
    with DefaultScope.overwrite_default_scope(config(name).default_scope):
        yield


BUILT = {}


def model(name):
    """The config's model, which is another's too where only their schedules differ."""
    cfg = config(name)
    key = cfg.default_scope, repr(cfg.model)
    if key not in BUILT:
        BUILT[key] = build_on_meta(cfg)
    return BUILT[key]


@cache
def outputs_and_cost(net, size):
    """What a model makes of an image, as shapes alone, and what that takes."""
    made = []
    cost = measure_complexity(net, size, lambda x: made.append(forward_without_annotations(net, x)))
    return made[0], cost


def size_of(name):
    """Rows and columns of an image: those that the table's figures are for, if it has any."""
    if name in MEASURED:
        (size,) = {row.size for row in ROWS[f'{name}.py']}
        return size
    size = config(name).model.backbone.get('img_size', 224)
    return size if isinstance(size, tuple) else (size, size)


def test_every_config_is_in_a_table_and_every_row_has_a_config():
    # tests/test_study does the same for the study's.
    names = [f'{name}.py' for name in IN_ZOO]
    assert sorted(names) == sorted(ROWS)


@pytest.mark.parametrize('table', TABLES.tables, ids=lambda table: table.title)
def test_configs_say_which_row_they_are(table):
    for row in table.rows:
        first = TABLES.config_path(row).read_text().splitlines()[0]
        if row.params is not None:
            name, _, figures = first.partition(': ')
            of = f'# Table {table.number}, {row.name.replace("@", ", ")}'
            assert name.removesuffix(' (the pyramid)') == of
            assert figures.startswith(f'{row.params} M parameters')
        elif table.number.isdigit() and 'ablations' in row.config and row.metrics:
            assert first.startswith(f'# Table {table.number}, {row.name}: {row.metrics["top1"]}%')


@pytest.mark.parametrize('name', NAMES)
def test_model_has_the_printed_size(name):
    check_model(config(name))
    for row in TABLES.by_config().get(f'{name}.py', []):
        if row.params is None:
            continue
        at = dict(img_size=row.params_at) if row.params_at else {}
        net = build_on_meta(config(name), **at) if at else model(name)
        counted = net.backbone if row.params_without_head else net
        millions = sum(p.numel() for p in counted.parameters()) / 1e6
        # The paper rounds some figures up and some down.
        assert abs(millions - row.params) < 1


@pytest.mark.parametrize('name', MEASURED)
def test_metafiles_have_the_measured_figures(name):
    _, cost = outputs_and_cost(model(name), size_of(name))
    assert COSTS.get(f'{name}.py') == cost, 'python tools/build_model_zoo.py writes them anew'


@pytest.mark.parametrize('name', IN_ZOO)
def test_training_steps_are_timed_on_the_crops(name):
    (row, *_) = ROWS[f'{name}.py']
    crops = [
        step.get('crop_size', step.get('scale'))
        for step in config(name).train_dataloader.dataset.pipeline
        if step.type.endswith(('RandomCrop', 'RandomResizedCrop'))
    ]
    if row.data.name in ('COCO', 'Digits'):  # images of any size, and as they are
        assert not crops
        return
    (crop,) = crops
    assert (crop if isinstance(crop, tuple) else (crop, crop)) == (row.train_size or row.size)


@pytest.mark.parametrize('name', [name for name in NAMES if name in MEASURED or name not in IN_ZOO])
def test_backbone_neck_and_heads_fit(name):
    cfg = config(name)
    rows, columns = size_of(name)
    out, _ = outputs_and_cost(model(name), (rows, columns))
    if 'retinanet' in name:
        for scores, boxes, stride in zip(*out, (8, 16, 32, 64, 128), strict=True):
            places = -(-rows // stride), -(-columns // stride)
            assert scores.shape == (1, 9 * 80, *places)
            assert boxes.shape == (1, 9 * 4, *places)
    elif cfg.default_scope == 'mmdet':
        (objectness, _), (classes, boxes), masks = out
        head = cfg.model.roi_head.bbox_head
        assert [score.shape[-2:] for score in objectness] == [
            (-(-rows // stride), -(-columns // stride)) for stride in (4, 8, 16, 32, 64)
        ]
        assert classes.shape == (1000, head.num_classes + 1)
        assert boxes.shape == (1000, head.num_classes * 4)
        assert masks.shape == (100, head.num_classes, 28, 28)
    elif cfg.default_scope == 'mmseg':
        stride = 16 if 'local' in name or 'plain-mamba' in name else 4
        channels = cfg.model.decode_head.num_classes
        assert out.shape == (1, channels, rows // stride, columns // stride)
    else:
        assert out.shape == (1, cfg.model.head.num_classes)


@pytest.mark.parametrize('name', NAMES)
def test_data_and_optimiser_can_be_built(name):
    cfg = config(name)
    with scope(name):
        for split in ('train', 'val', 'test'):
            dataset = cfg[f'{split}_dataloader'].dataset
            require_class(DATASETS, cfg.default_scope, dataset.type, split)
            Compose(dataset.pipeline)
        Compose(cfg.get('tta_pipeline', []))
        optimizer = build_optim_wrapper(model(name), on_cpu(cfg.optim_wrapper)).optimizer
    decays = {
        id(p): group['weight_decay'] for group in optimizer.param_groups for p in group['params']
    }
    assert all(id(p) in decays for p in model(name).parameters() if p.requires_grad)
    if not type(model(name).backbone).__module__.startswith('mmv2m'):
        return
    for key, p in model(name).backbone.named_parameters():
        spared = p.dim() <= 1 or any(part in key for part in SPARED)
        assert (decays[id(p)] == 0) == spared, key


def on_cpu(optim_wrapper):
    wrapper = deepcopy(optim_wrapper)
    wrapper.type = 'OptimWrapper'  # mixed precision needs a GPU
    for setting in ('dtype', 'loss_scale'):
        wrapper.pop(setting, None)
    return wrapper


def stock(name, optim_wrapper):
    """The optimizer wrapper's config with mmengine's own constructor, or mmdet's for ConvNeXt."""
    wrapper = on_cpu(optim_wrapper)
    del wrapper['constructor']
    for model_name, (rate, layers) in BY_MMDET.items():
        if model_name in name:
            wrapper.constructor = 'mmdet.LearningRateDecayOptimizerConstructor'
            wrapper.paramwise_cfg = dict(
                decay_rate=rate, decay_type='layer_wise', num_layers=layers
            )
    return wrapper


def settings_by_parameter(optimizer):
    return {
        id(p): {key: group[key] for key in optimizer.defaults}
        for group in optimizer.param_groups
        for p in group['params']
    }


@pytest.mark.parametrize('name', NAMES)
def test_each_parameter_trains_as_by_the_stock_constructor(name):
    wrapper = config(name).optim_wrapper
    with scope(name):
        optimizer = build_optim_wrapper(model(name), on_cpu(wrapper)).optimizer
        expected = build_optim_wrapper(model(name), stock(name, wrapper)).optimizer
    found = settings_by_parameter(optimizer)
    assert found == settings_by_parameter(expected)
    assert len(optimizer.param_groups) == len({repr(group) for group in found.values()})


@pytest.mark.parametrize('name', NAMES)
def test_averages_of_weights_are_made_by_foreach_operators(name):
    for hook in config(name).get('custom_hooks', []):
        if hook.type == 'EMAHook':
            assert MODELS.get(hook.ema_type) is ForeachExponentialMovingAverage


@pytest.mark.parametrize('name', BESIDE_V2M)
def test_small_data_baselines_have_the_budget_of_v2m(name):
    cfg, beside = config(f'baselines/{name}'), config(BESIDE_V2M[name])
    assert {key for key in {*cfg, *beside} if cfg.get(key) != beside.get(key)} == {'model'}
    # From scratch: nothing loaded, nothing frozen, batch norms with the batch's statistics.
    backbone = build_on_meta(cfg).train().backbone
    assert cfg.load_from is None and cfg.model.backbone.get('init_cfg') is None
    assert all(p.requires_grad for p in backbone.parameters())
    assert all(module.training for module in backbone.modules())
