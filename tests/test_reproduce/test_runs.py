import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from tiny_digits import TINY_DIGITS

from mmv2m.engine.errors import UserError
from mmv2m.reproduce.obstacles import find_obstacles
from mmv2m.reproduce.run_state import RunState, load_state
from mmv2m.reproduce.runs import Runs
from mmv2m.reproduce.tables import load_tables

ROOT = Path(__file__).resolve().parents[2]
TABLES = load_tables(ROOT / 'configs' / 'tables.yml')


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path('tiny.py').write_text(TINY_DIGITS)
    return Config.fromfile('tiny.py')


def test_states_survive(tmp_path):
    state = load_state(tmp_path / 'run', 'digest', {'a.b': (1, 2)}, 8)
    assert (state.seconds, state.trained, state.options) == (0, None, {'a.b': [1, 2]})
    state.seconds, state.trained = 3.5, 'last.pth'
    state.save()
    assert load_state(tmp_path / 'run', 'digest', {'a.b': [1, 2]}, 4) == state
    for digest, options in (('other', {'a.b': [1, 2]}), ('digest', {})):
        with pytest.raises(UserError, match='earlier version of the config or with other settings'):
            load_state(tmp_path / 'run', digest, options, 8)
    (tmp_path / 'run' / 'reproduce.json').write_text('{')
    with pytest.raises(UserError, match='cannot be read'):
        load_state(tmp_path / 'run', 'digest', {}, 8)


def test_weights_that_a_backbone_starts_from(tmp_path):
    by_name = {(t.number, row.name): row for t in TABLES.tables for row in t.rows}
    classifier, detector = by_name['1', 'V2M-S*'], by_name['2', 'V2M-S*@1x']
    baseline = by_name['3', 'VMamba-T']
    runs = Runs(tmp_path, tmp_path / 'records')

    def weights(row, runs=runs):
        return runs.pretrained(row, TABLES.config_path(row))

    assert weights(classifier) is None
    with pytest.raises(UserError, match='weights of v2m-s-star_8xb64_in1k.py: run that row first'):
        weights(detector)
    folder = runs.folder(TABLES.config_path(classifier))
    RunState(folder, 'digest').save()  # started, not done
    with pytest.raises(UserError, match='run that row first'):
        weights(detector)
    RunState(folder, 'digest', trained='epoch_300.pth').save()
    assert weights(detector) == str(folder / 'epoch_300.pth')
    # Another seed's weights serve as well, but the same seed's go first.
    other = Runs(tmp_path, tmp_path / 'records', seed=1)
    assert weights(detector, other) == str(folder / 'epoch_300.pth')
    own = other.folder(TABLES.config_path(classifier))
    RunState(own, 'digest', trained='epoch_300.pth').save()
    assert weights(detector, other) == str(own / 'epoch_300.pth')
    with pytest.raises(UserError, match='vmamba-t_8xb128_in1k.py'):
        weights(baseline)
    named = Runs(tmp_path, tmp_path / 'records', weights='mine.pth')
    assert (weights(baseline, named), weights(classifier, named)) == ('mine.pth', None)
    assert json.loads((own / 'reproduce.json').read_text())['gpus'] == 1


def kinds(cfg, **asked):
    found = find_obstacles(cfg, **{'training': True, 'cpu': True, **asked})
    assert 'launcher' not in cfg  # the config is left as it was
    return {obstacle.kind for obstacle in found}


@pytest.mark.skipif(torch.cuda.is_available(), reason='says what a machine without a GPU lacks')
def test_everything_that_is_missing_is_found(tiny):
    assert kinds(tiny) == set()
    assert kinds(tiny, cpu=False) == {'no GPU'}
    assert kinds(tiny, cpu=False, training=False) == set()
    tiny.optim_wrapper.type = 'AmpOptimWrapper'
    tiny.train_dataloader.dataset = dict(type='CustomDataset', data_root='gone', pipeline=[])
    tiny.model.backbone.scan_backend = 'mamba_ssm'
    tiny.model.head.type = 'NoHead'
    assert kinds(tiny) == {'no GPU', 'data missing', 'model wrong', 'backend missing'}
    assert kinds(tiny, training=False) == {'model wrong', 'backend missing'}
    tiny.default_scope = 'mmnothing'
    assert kinds(tiny) == {'library missing'}
