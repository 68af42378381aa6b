import importlib.util
from pathlib import Path

import pytest
from runners import forget_runners

ROOT = Path(__file__).resolve().parents[2]


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
