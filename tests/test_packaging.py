"""What `pip install` makes of the repository, and what its requirements files promise."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
IMPORT_OPS = 'import mmv2m.ops as ops, mmv2m; print(ops.__file__); print(mmv2m.__file__)'


def run(*command, cwd, check=True, **env):
    clean = {k: v for k, v in os.environ.items() if not k.startswith('PYTHON')}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=clean | env,
        capture_output=True,
        text=True,
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def imported_files(python, cwd):
    return [Path(line) for line in run(python, '-c', IMPORT_OPS, cwd=cwd).stdout.splitlines()]


@pytest.fixture(scope='module')
def clone(tmp_path_factory):
    """A copy of what the repository holds, so that nothing is built in the repository itself."""
    left_out = shutil.ignore_patterns(
        '.*', '__pycache__', '*.egg-info', 'build', 'dist', 'data', 'work_dirs', 'site'
    )
    return shutil.copytree(ROOT, tmp_path_factory.mktemp('packaging') / 'clone', ignore=left_out)


@pytest.fixture
def python(tmp_path):
    """The Python of an environment with everything that ours has, save for mmv2m itself."""
    venv.create(tmp_path / 'venv', with_pip=False, symlinks=True)
    executable = tmp_path / 'venv' / 'bin' / 'python'
    purelib = run(
        executable, '-c', 'import sysconfig; print(sysconfig.get_path("purelib"))', cwd=tmp_path
    )
    # A folder named in a .pth file is searched, but its own .pth files (editable installs) are not.
    Path(purelib.stdout.strip(), 'outer.pth').write_text(sysconfig.get_path('purelib'))
    return executable


def pip_install(python, *arguments, cwd):
    offline = ('--no-deps', '--no-build-isolation', '--no-index', '--ignore-installed')
    run(sys.executable, '-m', 'pip', '--python', python, 'install', *offline, *arguments, cwd=cwd)


def test_wheel_holds_ops_inside_the_package(clone, tmp_path, python):
    pip = (sys.executable, '-m', 'pip', 'wheel', '--no-deps', '--no-build-isolation', '--no-index')
    run(*pip, '--wheel-dir', tmp_path, clone, cwd=tmp_path)
    (wheel,) = tmp_path.glob('mmv2m-*.whl')
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder, prefix in ((ROOT / 'mmv2m', 'mmv2m'), (ROOT / 'ops', 'mmv2m/ops')):
        sources = {
            f'{prefix}/{file.relative_to(folder).as_posix()}'
            for file in folder.rglob('*.*')
            if file.suffix in ('.py', '.cu', '.cuh')
        }
        assert sources <= names
    assert {name.split('/')[0] for name in names if '.dist-info/' not in name} == {'mmv2m'}
    assert {'mmv2m/.mim/model-index.yml', 'mmv2m/.mim/configs/tables.yml'} <= names
    assert not [name for name in names if name.endswith('.pyc')]

    tools = {name.split('/')[3] for name in names if name.startswith('mmv2m/.mim/tools/')}
    assert {'train.py', 'reproduce.py', 'study.py', 'model_converters'} <= tools
    assert tools.isdisjoint({'build_model_zoo.py', 'benchmarks', 'docs', 'figures', 'setup'})

    pip_install(python, wheel, cwd=tmp_path)
    ops, package = imported_files(python, cwd=tmp_path)
    assert ops.parent.parent == package.parent
    assert package.is_relative_to(tmp_path / 'venv')

    # mim finds the models in the package's folder. (onedl-mim 0.5.1 takes the first file that pip
    # lists for the package's, which it is not where the distribution has the package's name.)
    code = (
        'import importlib, os, mmv2m; s = importlib.import_module("mim.commands.search"); '
        's.get_installed_path = lambda name: os.path.dirname(mmv2m.__file__); '
        'print(*s.get_model_info("mmv2m", models=["vim"], to_dict=True))'
    )
    found = run(python, '-c', code, cwd=tmp_path).stdout.splitlines()[-1].split()
    assert 'vim-t_8xb128_in1k' in found and 'v2m-t_8xb64_in1k' not in found

    # Its tools find its configs, and keep records where they are started.
    tool = package.parent / '.mim' / 'tools' / 'reproduce.py'
    shown = run(python, tool, '--table', '1', '--rows', 'V2M-T', '--no-timing', cwd=tmp_path)
    assert '| V2M-T ' in shown.stdout
    code = 'from mmv2m.engine.records.provenance import *; from mmv2m.root import *; '
    code += 'print(config_id(ROOT / "configs" / "v2m-t_8xb64_in1k.py"), RECORDS)'
    found = run(python, '-c', code, cwd=tmp_path).stdout.split()
    assert found == ['configs/v2m-t_8xb64_in1k.py', 'records']

    # Started inside a clone, the clone's package goes before the installed one, with its own ops/.
    assert imported_files(python, cwd=clone) == [
        clone / 'ops' / '__init__.py',
        clone / 'mmv2m' / '__init__.py',
    ]


def test_source_distribution_holds_the_repository(clone, tmp_path):
    code = f'from setuptools.build_meta import build_sdist; build_sdist({str(tmp_path)!r})'
    run(sys.executable, '-c', code, cwd=clone)
    (archive,) = tmp_path.glob('mmv2m-*.tar.gz')
    with tarfile.open(archive) as content:
        names = {name.partition('/')[2] for name in content.getnames()}
    made = {'build', 'mmv2m.egg-info', '__pycache__'}
    files = {path.relative_to(clone) for path in clone.rglob('*') if path.is_file()}
    files = {file.as_posix() for file in files if made.isdisjoint(file.parts)}
    assert sorted(files - names) == []


def test_editable_install_follows_the_clone(clone, tmp_path, python):
    pip_install(python, '--editable', clone, cwd=tmp_path)
    expected = [clone / 'ops' / '__init__.py', clone / 'mmv2m' / '__init__.py']
    assert imported_files(python, cwd=tmp_path) == expected
    assert imported_files(python, cwd=clone) == expected


def test_ops_need_no_openmmlab():
    families = ('mmengine', 'mmcv', 'mmpretrain', 'mmdet', 'mmseg')
    code = f'import sys, mmv2m.ops; print([name for name in {families} if name in sys.modules])'
    assert run(sys.executable, '-c', code, cwd=ROOT).stdout.strip() == '[]'


def test_package_itself_needs_no_torch():
    code = 'import sys, mmv2m; print(mmv2m.__version__, "torch" in sys.modules)'
    version = re.search(r"'(.+)'", (ROOT / 'mmv2m' / 'version.py').read_text())[1]
    assert run(sys.executable, '-c', code, cwd=ROOT).stdout.split() == [version, 'False']


def requirements(name):
    lines = (ROOT / 'requirements' / name).read_text().splitlines()
    return [line for line in lines if line and not line.startswith('#')]


def pins():
    names = {}
    files = ('build', 'lock', 'mmcv', 'mmcv-lite')
    for line in [line for file in files for line in requirements(f'{file}.txt')]:
        name, version = re.fullmatch(r'([\w.-]+)==([\w.]+)', line).groups()
        assert name not in names, f'{name} is pinned twice'
        names[re.sub(r'[-_.]+', '-', name).lower()] = version
    return names


@pytest.mark.parametrize('wanted', requirements('tested.in'))
def test_lock_pins_what_is_asked_for(wanted):
    name, version = re.fullmatch(r'([\w-]+)(?:==(.+)|[<>].+)?', wanted).groups()
    assert pins()[name] == (version or pins()[name])


def test_lock_leaves_out_what_breaks_the_set():
    assert {'opencv-python', 'transformers', 'mmv2m'}.isdisjoint(pins())


def test_set_up_says_in_one_line_that_python_is_missing(clone):
    done = run('bash', 'tools/setup/install.sh', cwd=clone, check=False, PYTHON='no-such-python')
    assert done.returncode == 1
    assert done.stdout == ''
    (line,) = done.stderr.splitlines()
    assert 'there is no no-such-python' in line
    assert 'apt-get install' in line


def make_wheel(folder, name, version, files):
    """A wheel of a package mmcv with these files."""
    info, record = f'{name}-{version}.dist-info', ''
    with zipfile.ZipFile(folder / f'{name}-{version}-py3-none-any.whl', 'w') as wheel:
        contents = {f'mmcv/{file}': '' for file in files}
        contents[f'{info}/METADATA'] = f'Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n'
        contents[f'{info}/WHEEL'] = 'Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n'
        for file, text in contents.items():
            wheel.writestr(file, text)
            record += f'{file},,\n'
        wheel.writestr(f'{info}/RECORD', f'{record}{info}/RECORD,,\n')


def test_each_mmcv_replaces_the_other(clone, tmp_path):
    """What install.sh does with two wheels that share files and have some of their own."""
    versions = dict(
        line.split('==') for f in ('mmcv', 'mmcv-lite') for line in requirements(f'{f}.txt')
    )
    make_wheel(tmp_path, 'mmcv_lite', versions['mmcv-lite'], ['__init__.py', 'lite.py'])
    make_wheel(tmp_path, 'onedl_mmcv', versions['onedl-mmcv'], ['__init__.py', 'ops.py'])
    place = shutil.copytree(clone, tmp_path / 'place')
    venv.create(place / '.venv', with_pip=True, symlinks=True)
    (site,) = (place / '.venv').glob('lib/python3.*/site-packages')
    offline = dict(PIP_NO_INDEX='1', PIP_FIND_LINKS=str(tmp_path))

    def after(commands):
        code = f'source tools/setup/install.sh; mkdir -p $stamps; {commands}'
        run('bash', '-c', code, cwd=place, **offline)
        found = {path.name for path in (site / 'mmcv').iterdir()} - {'__pycache__'}
        return found, sorted(path.name.split('-')[0] for path in site.glob('*mmcv*.dist-info'))

    lite, full = (
        ({'__init__.py', 'lite.py'}, ['mmcv_lite']),
        ({'__init__.py', 'ops.py'}, ['onedl_mmcv']),
    )
    assert after('mmcv_lite') == lite
    assert after('mmcv_wheel') == full
    assert after('mmcv_lite') == lite
    # Someone has installed the other over it.
    pip = (place / '.venv/bin/python', '-m', 'pip', 'install', '--no-deps', 'onedl-mmcv')
    run(*pip, cwd=place, **offline)
    assert after('both_mmcv && mmcv_wheel') == full


def test_set_up_explains_itself(clone):
    shown = run('bash', 'tools/setup/install.sh', '--help', cwd=clone).stdout
    assert shown.startswith('Makes .venv') and 'PYTHON' in shown and 'set -e' not in shown
    assert run('bash', 'install.sh', '--help', cwd=clone / 'tools/setup').stdout == shown
    done = run('bash', 'tools/setup/install.sh', 'dmo', cwd=clone, check=False)
    assert (
        done.returncode == 1
        and done.stderr == 'set-up: there is no set dmo: there are all and demo\n'
    )
    shown = run('bash', 'tools/setup/try_versions.sh', '--help', cwd=clone).stdout
    assert shown.startswith('Tests on another PyTorch') and 'KEEP=1' in shown
