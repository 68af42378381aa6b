"""What is compiled, when, and once: without a GPU."""

import contextlib
import fcntl
import logging
import multiprocessing
import os
import re
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from mmv2m.ops.runtime import ahead

triton = pytest.importorskip('triton')
pytest.importorskip('cuda.bindings')
from model_launches import MODELS  # noqa: E402

from mmv2m.ops.runtime import compile as compiling  # noqa: E402
from mmv2m.ops.runtime import driver as loading  # noqa: E402
from mmv2m.ops.runtime import hardware, nvrtc  # noqa: E402
from mmv2m.ops.runtime.hardware import Hardware  # noqa: E402
from mmv2m.ops.runtime.launch import Launch  # noqa: E402
from mmv2m.ops.triton.launch import TritonLaunch  # noqa: E402
from mmv2m.ops.triton.launch import launch as launch_triton  # noqa: E402

SIZES = ((1, 7, 7), (2, 56, 56), (64, 14, 14), (3, 9, 17), (1, 200, 304), (2, 1, 3000))
"""Images, and rows and columns of tokens: of classification, of dense tasks and of sequences."""

REGISTERS, MOST_REGISTERS = 65536, 255
"""Of a multiprocessor, and of a thread: of all these chips."""

CHIPS = {
    'sm_80': Hardware(108, 164 * 1024, 163 * 1024),
    'sm_86': Hardware(84, 100 * 1024, 99 * 1024),
    'sm_89': Hardware(128, 100 * 1024, 99 * 1024),
    'sm_90': Hardware(132, 228 * 1024, 227 * 1024),
    'sm_100': Hardware(148, 228 * 1024, 227 * 1024),
    'sm_120': Hardware(170, 100 * 1024, 99 * 1024),
}

ONE_OF_EACH_SIZE = ('sm_80', 'sm_90', 'sm_120')
"""One chip for each size of shared memory."""

CUOBJDUMP = Path(triton.__file__).parent / 'backends/nvidia/bin/cuobjdump'

fork = multiprocessing.get_context('fork')


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('MMV2M_CACHE_DIR', str(tmp_path))
    return tmp_path


def of_cuda(calls):
    return [call for call in calls if isinstance(call, Launch)]


@pytest.mark.parametrize('model', MODELS)
def test_another_size_compiles_nothing_and_all_is_little(model, monkeypatch):
    monkeypatch.setattr(hardware, 'EMULATED', CHIPS['sm_90'])
    calls = [call for op in MODELS[model] for call in op.rehearse()]
    kernels = {call.key() for call in calls}
    assert len(kernels) <= 40
    assert len(kernels - {call.key() for call in of_cuda(calls)}) <= 10  # Triton's, one by one
    for operator in MODELS[model]:
        rehearsed = {call.key() for call in of_cuda(operator.rehearse())}
        for sizes in SIZES:
            assert {call.key() for call in of_cuda(operator.launches(sizes))} <= rehearsed


def launches_of_all_models():
    operators = [operator for model in MODELS.values() for operator in model]
    return [call for op in operators for sizes in SIZES for call in of_cuda(op.launches(sizes))]


@pytest.mark.parametrize('chip', CHIPS)
def test_shared_memory_of_launches_is_there(chip, monkeypatch):
    monkeypatch.setattr(hardware, 'EMULATED', CHIPS[chip])
    launches = launches_of_all_models()
    assert max(call.shared_bytes for call in launches) <= CHIPS[chip].shared_bytes_of_block


@pytest.mark.parametrize('tokens', [14, 15, 16])
def test_short_lanes_of_many_states_leave_room_for_three_blocks(tokens, monkeypatch):
    """In the backward scan of a V2M-T: 196 tokens, or 225 with class tokens, or 256."""
    monkeypatch.setattr(hardware, 'EMULATED', CHIPS['sm_90'])
    launches = [
        call
        for operator in MODELS['V2M-T']
        for call in of_cuda(operator.launches((2, tokens, tokens)))
        if call.source == 'scan_backward.cu'
    ]
    assert len(launches) == 2
    chip = CHIPS['sm_90']
    for call in launches:
        assert 3 * (call.shared_bytes + chip.reserved_bytes) <= chip.shared_bytes


def resources(cubin, folder):
    """Registers of a thread, and shared memory that the compiler has laid out."""
    path = folder / 'looked-at.cubin'
    path.write_bytes(cubin)
    command = [CUOBJDUMP, '--dump-resource-usage', path]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [int(re.search(rf'{name}:(\d+)', printed)[1]) for name in ('REG', 'SHARED')]


@pytest.mark.skipif(not CUOBJDUMP.exists(), reason='Triton brings no cuobjdump')
def test_kernels_are_within_chips_limits(cache, monkeypatch):
    """Of each source what takes most shared memory; MMV2M_ALL_KERNELS=1 for all kernels.

    Those that take little are compiled for the first and the last chip only, and others for one of
    the chips that have as much shared memory.
    """
    jobs, everything = [], os.environ.get('MMV2M_ALL_KERNELS') == '1'
    for chip in CHIPS if everything else ONE_OF_EACH_SIZE:
        monkeypatch.setattr(hardware, 'EMULATED', CHIPS[chip])
        calls = sorted(launches_of_all_models(), key=lambda call: call.shared_bytes)
        chosen = {call.key() if everything else call.source: call for call in calls}
        jobs += [
            (chip, call)
            for call in chosen.values()
            if everything or chip in ('sm_80', 'sm_120') or call.shared_bytes > 48 * 1024
        ]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        compiled = pool.map(lambda job: compiling.compile_kernel(*job[1].key(), job[0]), jobs)
        for (chip, call), cubin in zip(jobs, compiled, strict=True):
            registers, static = resources(cubin, cache)
            assert registers <= MOST_REGISTERS
            of_warp = -(-registers * 32 // 256) * 256  # as they are given out
            assert of_warp * call.threads // 32 <= REGISTERS, (chip, call.key())
            assert static + call.shared_bytes <= CHIPS[chip].shared_bytes_of_block


def compile_and_note(folder, barrier):
    """In a process of its own: compile a kernel, which takes a while and leaves a mark."""

    def compile_slowly(program):
        time.sleep(0.3)
        with (folder / 'marks').open('a') as file:
            file.write('compiled\n')
        return b'cubin'

    nvrtc.compile_apart = compile_slowly
    barrier.wait()
    os._exit(compiling.compile_kernel('sum_rows.cu', (), 'sm_90') != b'cubin')


def test_processes_compile_once(cache, tmp_path_factory):
    folder, barrier = tmp_path_factory.mktemp('marks'), fork.Barrier(4)
    ranks = [fork.Process(target=compile_and_note, args=(folder, barrier)) for _ in range(4)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(60)
    assert [rank.exitcode for rank in ranks] == [0] * 4
    assert (folder / 'marks').read_text() == 'compiled\n'
    assert [path.suffix for path in cache.iterdir()] == ['.cubin']


def lock_and_stay(ready):
    with ahead.exclusively('lock'):
        ready.set()
        time.sleep(600)


def test_a_lock_of_the_dead_is_lifted(cache):
    ready = fork.Event()
    holder = fork.Process(target=lock_and_stay, args=(ready,))
    holder.start()
    assert ready.wait(60)
    os.kill(holder.pid, signal.SIGKILL)
    with ahead.exclusively('lock'):
        pass
    holder.join(60)


def test_a_process_forked_meanwhile_keeps_no_lock(cache):
    """As a worker of a data loader is, while threads compile."""
    released, done = fork.Event(), fork.Event()
    with ahead.exclusively('lock'):
        waiting = fork.Process(target=released.wait, args=(60,))
        waiting.start()
        # It found the file before the lock is lifted and the file removed, and waits for it.
        other = fork.Process(target=lock_and_tell, args=(cache / 'lock.lock', done))
        other.start()
        time.sleep(0.5)
        assert not done.is_set()
    assert done.wait(30)
    released.set()
    for process in (waiting, other):
        process.join(60)


def lock_and_tell(path, done):
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
    done.set()


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / 'file').touch()
    monkeypatch.setenv('MMV2M_CACHE_DIR', str(tmp_path / 'file'))
    monkeypatch.setattr(nvrtc, 'compile_apart', lambda program: b'cubin')
    assert compiling.compile_kernel('sum_rows.cu', (('NOT', 'CACHED'),), 'sm_90') == b'cubin'


def test_compiling_ahead(cache, monkeypatch):
    programs = []
    monkeypatch.setattr(nvrtc, 'compile_apart', lambda p: programs.append(p.options) or b'cubin')
    kernel = ('sum_rows.cu', (('AHEAD', 1),), 'sm_90')
    for _ in range(2):
        compiling.compile_ahead(*kernel)
    assert compiling.compile_kernel(*kernel) == b'cubin'
    assert len(programs) == 1


class SlowKernel:
    """As one of Triton's; for float64 it is compiled only when it may go on."""

    params, arg_names = (SimpleNamespace(do_not_specialize=False),), ('x',)

    def __init__(self, name):
        self.__name__, self.did = name, []
        self.begins, self.goes_on = threading.Event(), threading.Event()

    def warmup(self, x, grid):
        if x.dtype == torch.float64:
            self.begins.set()
            assert self.goes_on.wait(60)
        self.did.append(('compiled', x.dtype))

    def __getitem__(self, grid):
        return lambda x: self.did.append(('launched', x.dtype))


@pytest.fixture
def kernel(cache, monkeypatch, request):
    """With threads of its own, whose kernels nobody else waits for."""
    monkeypatch.setattr(torch.cuda, 'device', lambda device: contextlib.nullcontext())
    with ThreadPoolExecutor(2) as pool:
        monkeypatch.setattr(ahead, '_threads', lambda: pool)
        kernel = SlowKernel(request.node.name)
        yield kernel
        kernel.goes_on.set()


def test_a_launch_waits_for_its_own_kernel_only(kernel):
    """Not for the same one with other arguments, though one is compiled after the other."""
    half, exact = (torch.zeros(1, dtype=dtype) for dtype in (torch.float16, torch.float64))
    compiled, launched = (
        [(what, x.dtype) for x in (half, exact)] for what in ('compiled', 'launched')
    )
    TritonLaunch(kernel, (half,), {}).compile_ahead(half.device)
    launch_triton(kernel, (1,), half)
    TritonLaunch(kernel, (exact,), {}).compile_ahead(exact.device)
    assert kernel.begins.wait(60)
    launch_triton(kernel, (1,), half)
    with ThreadPoolExecutor(1) as other:
        launching = other.submit(launch_triton, kernel, (1,), exact)
        time.sleep(0.2)
        assert kernel.did == [compiled[0], launched[0], launched[0]]
        kernel.goes_on.set()
        launching.result(60)
    assert kernel.did[3:] == [compiled[1], launched[1]]


def test_a_launch_that_nobody_has_foreseen_is_compiled(kernel):
    half, exact = (torch.zeros(1, dtype=dtype) for dtype in (torch.float16, torch.float64))
    TritonLaunch(kernel, (exact,), {}).compile_ahead(exact.device)
    another = SlowKernel('another')
    launch_triton(another, (1,), half)
    assert another.did == [('compiled', torch.float16), ('launched', torch.float16)]


def test_the_log_is_told_once(monkeypatch, caplog):
    monkeypatch.setattr(ahead, '_TOLD', ahead._Told())
    with caplog.at_level(logging.INFO, 'mmv2m'):
        for _ in range(2):
            with ahead.compiling('sm_90'), ahead.compiling('sm_90'):
                pass
    begins, *ends = [record.getMessage() for record in caplog.records]
    assert 'compiling kernels for sm_90' in begins
    assert [end.startswith('compiled 2 kernels in') for end in ends] == [True, True]


def test_a_kernel_is_loaded_once_for_any_shared_memory(monkeypatch):
    from cuda.bindings import driver

    allowed, done = [], (driver.CUresult.CUDA_SUCCESS,)
    monkeypatch.setattr(
        driver, 'cuFuncSetAttribute', lambda function, name, size: allowed.append(size) or done
    )
    loaded = loading._Loaded('handle')
    sizes = (0, 48 * 1024, 60 * 1024, 50 * 1024, 70 * 1024)
    assert [loaded.with_shared(size) for size in sizes] == ['handle'] * 5
    assert allowed == [60 * 1024, 70 * 1024]


def test_no_gpu_no_rehearsal():
    """On the CPU, which only emulations run on, nothing is compiled beforehand."""
    from mmv2m.ops.runtime.rehearsal import rehearsed

    ran = []
    run = rehearsed(lambda x: ran.append(x.device.type), lambda *args: pytest.fail())
    run(torch.ones(1, 2, 3, 4))
    assert ran == ['cpu']
