"""Reports where there is a GPU, which these tests only claim, and how estimates are shown."""

import csv
import io
import json
from pathlib import Path

import pytest
import torch
from mmpretrain.models import TIMMBackbone
from mmpretrain.utils import require

from mmv2m.reproduce import report
from mmv2m.reproduce.estimate import Estimate
from mmv2m.reproduce.markdown import as_markdown
from mmv2m.reproduce.plain_data import as_csv, as_json
from mmv2m.reproduce.tables import load_tables

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def rows(monkeypatch):
    """Report three rows of Table 1 with this throughput in the place of a measured one."""
    monkeypatch.setattr(report, 'is_cuda_available', lambda: True)
    monkeypatch.setattr(report, '_estimates', {})
    tables = load_tables(ROOT / 'configs' / 'tables.yml')
    chosen = tables.select('1', ['V2M-T', 'ResNet-18', 'DeiT-T'])

    def run(throughput, **settings):
        monkeypatch.setattr(report, 'Throughput', throughput)
        return list(report.report_rows(tables, chosen, [], **settings))

    return run


class Steady:
    def __init__(self, cfg, size):
        assert size == (224, 224)
        self.type = cfg.model.backbone.type

    def measure(self, batch_size):
        if self.type == 'ResNet':
            raise torch.OutOfMemoryError
        return 1000.0 if batch_size > 8 else 500.0


def test_what_training_costs_is_shown(rows):
    reports = rows(Steady)
    resnet, deit, v2m = reports
    hours = 300 * 1281167 / 1000 / 3600
    assert [e.hours for e in v2m.estimates] == pytest.approx([hours, hours / 8, hours / 32])
    assert [e.batch_size for e in v2m.estimates] == [64, 64, 8]
    assert [e.batch_size for e in deit.estimates] == [256, 128, 16]
    assert all('does not fit' in e.problem for e in resnet.estimates)

    shown = as_markdown(reports)
    (line,) = [line for line in shown.splitlines() if line.startswith('| V2M-T ')]
    cells = [cell.strip() for cell in line.split('|')]
    assert cells[7:11] == ['1,000', '106.8 h', '13.3 h (107 GPU-h)', '3.3 h (214 GPU-h)']
    (line,) = [line for line in shown.splitlines() if line.startswith('| ResNet-18 ')]
    assert [cell.strip() for cell in line.split('|')][7:11] == ['', '–', '–', '–']
    assert '- ResNet-18: 64 GPUs: one image does not fit into memory' in shown

    entry = json.loads(as_json(reports))[2]['training']
    assert entry['64_gpus'] == dict(
        batch_size=8, images_per_second=500.0, gpu_hours=213.53, hours=3.34
    )
    table = list(csv.DictReader(io.StringIO(as_csv(reports))))
    assert [row['training 8_gpus hours'] for row in table] == ['', '13.35', '13.35']


def test_a_row_that_cannot_be_timed_does_not_stop_the_others(rows):
    class Failing(Steady):
        def measure(self, batch_size):
            if self.type == 'V2M':
                raise RuntimeError('no kernel\n  image')
            return super().measure(batch_size)

    resnet, deit, v2m = rows(Failing)
    assert deit.estimates and not v2m.estimates
    (obstacle,) = [o for o in v2m.obstacles if o.kind == 'not timed']
    assert obstacle.message == 'RuntimeError: no kernel image'
    assert v2m.cost is not None


def test_timing_can_be_left_out(rows):
    reports = rows(Steady, time_steps=False)
    assert not any(r.estimates for r in reports)
    assert 'GPU-h' not in as_markdown(reports)


def test_a_pair_of_rows_of_one_config_is_timed_once(rows):
    asked = []

    class Counting(Steady):
        def measure(self, batch_size):
            asked.append(batch_size)
            return 1.0

    rows(Counting)
    rows(Counting)
    assert len(asked) == 7  # two batches of ResNet-18 and of V2M-T, three of DeiT-T
    assert Estimate(8).hours is None


@pytest.fixture
def two_rows():
    """Reports of a row with a model of timm's and of one that comes after it."""
    report.measure_row.cache_clear()
    tables = load_tables(ROOT / 'configs' / 'tables.yml')
    chosen = tables.select('1', ['RegNetY-4G', 'DeiT-S'])
    yield lambda: list(report.report_rows(tables, chosen, [], time_steps=False))
    report.measure_row.cache_clear()


def test_a_package_that_is_missing_does_not_stop_the_others(two_rows, monkeypatch):
    missing = require('no-such-package')(TIMMBackbone.__init__)
    monkeypatch.setattr(TIMMBackbone, '__init__', missing)
    regnet, deit = two_rows()
    (obstacle,) = regnet.obstacles
    assert obstacle.kind == 'library missing'
    assert 'model.backbone: TIMMBackbone requires no-such-package, please' in obstacle.message
    assert regnet.cost is None and deit.cost is not None


def test_a_model_that_cannot_be_built_does_not_stop_the_others(two_rows, monkeypatch):
    def fail(self, **settings):
        raise RuntimeError('unknown model')

    monkeypatch.setattr(TIMMBackbone, '__init__', fail)
    regnet, deit = two_rows()
    (message,) = [o.message for o in regnet.obstacles if o.kind == 'model wrong']
    assert 'regnety-4gf_8xb64_in1k.py: the model cannot be measured: RuntimeError' in message
    assert regnet.cost is None and deit.cost is not None
