"""Train with tools/train.py, kill it at random moments, and resume it until it has finished.

    python killed_trainings.py CONFIG FOLDER PROCESSES KILLS [CONFIG FOLDER PROCESSES KILLS ...]

FOLDER gets two work dirs: 'whole' of a training without kills, and 'killed'. PROCESSES train
together. They are forked, since importing the libraries takes far longer than
training. After KILLS kills by SIGKILL the training goes on to its end. The work dir is moved after
each kill. A line printed says how many kills came while a checkpoint was written.
"""

import gc
import importlib.util
import os
import random
import signal
import socket
import sys
import time
from pathlib import Path

from yapf.yapflib import yapf_api

ROOT = Path(__file__).resolve().parents[1]


def load_main():
    spec = importlib.util.spec_from_file_location('train', ROOT / 'tools' / 'train.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def free_port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return str(probe.getsockname()[1])


def start(main, argv, rank, processes, port):
    """Process id of a rank."""
    if pid := os.fork():
        return pid
    status = 1
    try:
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(processes))
        os.environ.update(MASTER_ADDR='127.0.0.1', MASTER_PORT=port)
        launcher = ['--launcher', 'pytorch'] if processes > 1 else []
        main([*argv, *launcher])
        status = 0
    finally:
        sys.stdout.flush()
        os._exit(status)


def train(main, argv, folder, processes, checkpoints=None, delay=0.0):
    """Whether a training ended by itself.

    It is killed when it has saved some checkpoints, after a delay in seconds.
    """
    port, saved, newest = free_port(), 0, last_checkpoint(folder)
    running = {start(main, argv, rank, processes, port) for rank in range(processes)}
    while running and saved != checkpoints:
        time.sleep(0.001)
        name = last_checkpoint(folder)
        saved, newest = saved + (name not in ('', newest)), name or newest
        for pid in list(running):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                running.remove(pid)
                assert status == 0, f'a process ended with {status}'
    time.sleep(delay if running else 0)
    for pid in running:
        os.kill(pid, signal.SIGKILL)
    for pid in running:
        os.waitpid(pid, 0)
    return not running


def last_checkpoint(folder):
    note = folder / 'last_checkpoint'
    return note.read_text() if note.exists() else ''


def prepare():
    """Import what trainings import, and spare them what takes longer than they do themselves."""
    main = load_main()
    for name in ('torch._dynamo', 'mmpretrain.engine', 'mmv2m.datasets', 'mmv2m.models'):
        importlib.import_module(name)  # what trainings import late
    # The config's text in each checkpoint need not be pretty, and the libraries have no garbage to
    # collect.
    yapf_api.FormatCode = lambda text, **_: (text, True)
    gc.freeze()
    return main


def run(main, config, parent, processes, kills):
    rng = random.Random(0)
    whole, work_dir, writing = Path(parent, 'whole'), Path(parent, 'killed'), 0
    train(main, [config, '--work-dir', str(whole)], whole, processes)
    folder = work_dir
    for i in range(kills):
        checkpoints = rng.randrange(4)
        delay = rng.uniform(0, 0.05 if checkpoints else 0.4)
        argv = [config, '--work-dir', str(folder), '--resume']
        if train(main, argv, folder, processes, checkpoints, delay):
            raise SystemExit(f'the training has finished after {i} kills: it is too short')
        writing += any(folder.glob('*.part'))
        if folder.exists():
            folder = folder.rename(f'{work_dir}_{i}')  # moved
    train(main, [config, '--work-dir', str(folder), '--resume'], folder, processes)
    folder.rename(work_dir)
    print(f'{kills} kills, {writing} of them while a checkpoint was written')


if __name__ == '__main__':
    train_main, arguments = prepare(), iter(sys.argv[1:])
    for its_config, its_folder, number, times in zip(*[arguments] * 4, strict=True):
        run(train_main, its_config, its_folder, int(number), int(times))
