"""Lengths of a training, parts of its loops, and what waits for validations."""

import pytest
from tiny_digits import TINY_DIGITS

WITHOUT_VALIDATION = 'val_dataloader = val_cfg = val_evaluator = None\n'


@pytest.fixture
def says(train, fails, tmp_path):
    def of(lines, *flags):
        (tmp_path / 'tiny.py').write_text(f'{TINY_DIGITS}{lines}\n')
        return fails(train, tmp_path / 'tiny.py', *flags)

    return of


@pytest.mark.parametrize(
    ('setting', 'value', 'least'),
    [
        ("train_cfg['max_epochs']", 0, 1),
        ("train_cfg['max_epochs']", -1, 1),
        ("train_cfg['max_epochs']", 1.5, 1),
        ("train_cfg['val_interval']", 0, 1),
        ("train_dataloader['batch_size']", 'a', 1),
        ("val_dataloader['num_workers']", -1, 0),
        ("optim_wrapper['accumulative_counts']", 0, 1),
    ],
)
def test_numbers(says, setting, value, least):
    where = setting.replace("['", '.').removesuffix("']")
    line = says(f'{setting} = {value!r}')
    assert f'{where} must be a whole number of {least} or more, but is {value!r}' in line


@pytest.mark.parametrize(
    ('line', 'message'),
    [
        ('train_cfg = dict(max_epochs=1)', 'train_cfg needs one of by_epoch (True, or False for'),
        ("train_cfg['type'] = 'EpochBasedTrainLoop'", 'type, but has both'),
        ('train_cfg = dict(by_epoch=True)', 'train_cfg needs max_epochs, the length of the train'),
        (
            "train_cfg['val_begin'] = 3",
            'val_begin is 3, but max_epochs is 2, so that no validation',
        ),
        ('val_evaluator = None', 'the config has val_dataloader and val_cfg, but no val_evaluator'),
        ('del test_cfg', 'the config has test_dataloader and test_evaluator, but no test_cfg'),
    ],
)
def test_loops(says, line, message):
    assert message in says(line)


@pytest.mark.parametrize(
    ('line', 'where'),
    [
        ("default_hooks['checkpoint']['save_best'] = 'auto'", 'default_hooks.checkpoint.save_best'),
        (
            "custom_hooks = [dict(type='EarlyStoppingHook', monitor='accuracy/top1')]",
            'custom_hooks[0] (EarlyStoppingHook)',
        ),
        (
            "param_scheduler = dict(type='ReduceOnPlateauLR', monitor='accuracy/top1')",
            'param_scheduler (ReduceOnPlateauLR)',
        ),
    ],
)
def test_what_waits_for_validations(says, line, where):
    message = f'{where} waits for validations, but the config has none'
    assert message in says(f'{WITHOUT_VALIDATION}{line}')
    if 'save_best' not in where:
        assert message in says(line, '--no-validate')


def test_no_best_checkpoint_without_validation(train, tmp_path):
    """--no-validate says that there will be none."""
    best = "default_hooks['checkpoint']['save_best'] = 'auto'\ntrain_cfg['max_epochs'] = 1\n"
    (tmp_path / 'tiny.py').write_text(TINY_DIGITS + best)
    train([str(tmp_path / 'tiny.py'), '--no-validate'])
    assert [p.name for p in (tmp_path / 'work_dirs' / 'tiny').glob('*.pth')] == ['epoch_1.pth']
