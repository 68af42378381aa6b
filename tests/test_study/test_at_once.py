"""Several runs at a time, which are processes that only print."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmv2m.study.at_once import gpus_of_slots, train_at_once
from mmv2m.study.command import _command, parse_study_args
from mmv2m.study.plan import Run, load_study

MEETING = """
import os, sys, time
from pathlib import Path
Path(sys.argv[1] + os.environ['CUDA_VISIBLE_DEVICES']).touch()
while len(list(Path().glob('came*'))) < 2:
    time.sleep(0.01)
print('a line'); print(sys.argv[1], 'came')
"""


def runs(*names):
    return iter([Run(Path(f'{name}.py'), 0) for name in names])


def python(code):
    return lambda run: [sys.executable, '-c', code, run.config.stem]


def test_two_at_a_time_on_a_gpu_each(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert train_at_once(runs('came-a', 'came-b'), python(MEETING), Path('logs'), ['5', '7']) == 0
    assert sorted(path.name for path in Path().glob('came*')) == ['came-a5', 'came-b7']
    assert sorted(capsys.readouterr().out.splitlines()) == ['came-a came', 'came-b came']
    assert Path('logs/came-a_seed0.txt').read_text() == 'a line\ncame-a came\n'


def test_what_fails_is_said_and_the_rest_goes_on(tmp_path, capsys):
    code = "import sys; sys.exit('no luck' if sys.argv[1] == 'bad' else print('fine'))"
    assert train_at_once(runs('bad', 'good'), python(code), tmp_path, [None]) == 1
    out, err = capsys.readouterr()
    assert out.splitlines() == ['no luck', 'fine']
    assert 'bad, seed 0: failed' in err and 'good' not in err


def test_the_next_run_is_asked_for_when_it_can_start(tmp_path):
    """A budget is looked at then."""
    ended = []

    def ask():
        for run in runs('a', 'b'):
            ended.append([path.read_text() for path in tmp_path.glob('*.txt')])
            yield run

    assert train_at_once(ask(), python("print('fine')"), tmp_path, [None]) == 0
    assert ended == [[], ['fine\n']]


def test_an_interrupt_ends_what_the_processes_started(tmp_path):
    code = f"""
import subprocess, sys, time
child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])
open({str(tmp_path / 'pid')!r}, 'w').write(str(child.pid)); time.sleep(60)
"""

    def one_then_interrupt():
        yield from runs('long')
        while not (tmp_path / 'pid').exists() or not (tmp_path / 'pid').read_text():
            pass
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_at_once(one_then_interrupt(), python(code), tmp_path, [None, None])
    pid = (tmp_path / 'pid').read_text()
    deadline = time.monotonic() + 30  # of itself it would take 60 s
    while not _has_ended(pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _has_ended(pid):
    state = subprocess.run(['ps', '-o', 'stat=', '-p', pid], capture_output=True, text=True).stdout
    return not state.strip() or state.startswith('Z')


def test_gpus(monkeypatch):
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '2,5')
    assert gpus_of_slots(3) == ['2', '5', '2']
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES')
    monkeypatch.setattr('torch.cuda.device_count', lambda: 2)
    assert gpus_of_slots(3) == ['0', '1', '0']
    monkeypatch.setattr('torch.cuda.device_count', lambda: 0)
    assert gpus_of_slots(2) == [None, None]


def test_command_trains_the_run_as_the_study_would(place):
    options = ['optim_wrapper.optimizer.lr=0.1', 'train_cfg.max_epochs=1']
    args = parse_study_args(
        ['--study', 'study.yml', '--at-once', '2', '--records', 'r', '--cfg-options', *options]
    )
    plan = load_study(args.study)
    run = Run(plan.comparisons[0].arms[1].config, 4)
    command = _command(run, plan, args)
    assert command[0] == sys.executable
    alone = parse_study_args(command[2:])
    assert (alone.runs, alone.seeds, alone.at_once) == (['one'], [4], 1)
    assert (alone.study, alone.records, alone.work_dir) == (args.study, args.records, args.work_dir)
    assert alone.cfg_options == args.cfg_options
