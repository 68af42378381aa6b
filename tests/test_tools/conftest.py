import importlib
import importlib.util
import sys
from pathlib import Path

import pytest
from runners import forget_runners

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = ROOT / 'tools' / 'benchmarks'


def _load_main(name):
    """The main function of a tool."""
    spec = importlib.util.spec_from_file_location(f'tools_{name}', ROOT / 'tools' / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def run(argv=None):
        forget_runners()
        return module.main(argv)

    return run


@pytest.fixture(scope='session')
def load_main():
    return _load_main


@pytest.fixture(scope='session')
def train():
    return _load_main('train')


@pytest.fixture(scope='session')
def test():
    return _load_main('test')


@pytest.fixture(autouse=True)
def fresh_process_state(monkeypatch, tmp_path):
    """Each test works in a folder of its own and leaves nothing of its runners behind."""
    monkeypatch.chdir(tmp_path)
    yield
    forget_runners()


@pytest.fixture
def fails(capsys):
    """Run a tool that has to stop with one error line; returns the line."""

    def run(main, *argv):
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main([str(arg) for arg in argv])
        assert stop.value.code == 2
        lines = [x for x in capsys.readouterr().err.splitlines() if x.startswith('error: ')]
        assert len(lines) == 1
        assert not Path('work_dirs').exists()
        return lines[0]

    return run


@pytest.fixture
def load(monkeypatch):
    """Import a module of tools/benchmarks as its scripts do; their plain names do not stay."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(BENCHMARKS)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if Path(getattr(sys.modules[name], '__file__', None) or '/').parent == BENCHMARKS:
            del sys.modules[name]


@pytest.fixture
def script(load):
    """Import a script, all of which need what the benchmarks compare with."""
    pytest.importorskip('triton')
    pytest.importorskip('timm')
    return load
