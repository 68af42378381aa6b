"""Values that an optimizer or a schedule refuses."""

import pytest
from tiny_digits import TINY_DIGITS


@pytest.fixture
def says(train, fails, tmp_path):
    def of(lines):
        (tmp_path / 'tiny.py').write_text(f'{TINY_DIGITS}{lines}\n')
        return fails(train, tmp_path / 'tiny.py')

    return of


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (
            "type='SGD', lr='1e-x'",
            "optim_wrapper.optimizer.lr must be a number, but is the word '1",
        ),
        ("type='AdamW', weight_decay='0.1'", 'weight_decay must be a number, but is the word'),
        ("type='SGD', lr=-1", 'optim_wrapper.optimizer (SGD): Invalid learning rate: -1'),
        ("type='SGD', lr=1, nesterov=True", 'Nesterov momentum requires a momentum'),
        ('lr=0.1', "optim_wrapper.optimizer has no type: add type='AdamW'"),
    ],
)
def test_optimizers(says, settings, message):
    assert message in says(f"optim_wrapper['optimizer'] = dict({settings})")


def test_no_optimizer(says):
    line = says("optim_wrapper = dict(type='OptimWrapper')")
    assert 'optim_wrapper has no optimizer: add optimizer=dict(type=..., lr=...)' in line


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ("type='MultiStepLR'", "missing 1 required positional argument: 'milestones'"),
        ("type='LinearLR', begin=5, end=2", '(LinearLR): end should be larger than begin, but got'),
        ("type='LinearLR', start_factor=2.0", 'multiplicative factor should between 0 and 1'),
        ("type='LinearLR', by_epoch=False, convert_to_iter_based=True", 'Only epoch-based kwargs'),
        ('T_max=2', 'param_scheduler[0] has no type'),
    ],
)
def test_schedules(says, settings, message):
    assert message in says(f'param_scheduler = [dict({settings})]')


def test_schedules_that_there_are(train, tmp_path):
    (tmp_path / 'tiny.py').write_text(
        f"""{TINY_DIGITS}
optim_wrapper = dict(optimizer=dict(type='Lamb', lr=0.01))
param_scheduler = [
    dict(type='LinearLR', end=1, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', begin=1, by_epoch=True),
    dict(type='ConstantMomentum', factor=0.5, by_epoch=False),
]
"""
    )
    train([str(tmp_path / 'tiny.py')])
