"""Every fenced block of README.md and docs/ does what the page says, or says why it is not run.

``<!-- not run: REASON -->`` in front of a block leaves it out; ``<!-- run with: ARGUMENTS -->``
adds arguments to each of its commands, so that they finish within seconds. The Python blocks of a
page are one program; those that do nothing but assign are configs: loaded, checked and built.
``<!-- saved as: FILE -->`` in front of a config keeps it for the commands that follow.
"""

import ast
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cifar_data import make_cifar10
from classifier import Classifier
from dense_data import make_bowl
from made_weights import save_official_vmamba
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from runners import forget_runners, run_tool

from mmv2m.engine.preflight.model import check_model
from mmv2m.models import V2M

ROOT = Path(__file__).resolve().parents[2]
PAGES = (page for page in ROOT.glob('docs/**/*.md') if page.parent.name != 'guides')
FILES = sorted([ROOT / 'README.md', *PAGES])  # the guides change files: see test_guides.py
FENCE = re.compile(
    r'(?:^<!-- (?P<mark>not run|run with|saved as): (?P<text>.+?) -->\n)?'
    r'^```(?P<language>\w*)\n(?P<code>.*?)^```$',
    re.MULTILINE | re.DOTALL,
)
BLOCKS = {
    file.relative_to(ROOT).as_posix(): list(FENCE.finditer(file.read_text())) for file in FILES
}
RUN = {
    page: [block for block in blocks if block['mark'] != 'not run']
    for page, blocks in BLOCKS.items()
}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder that looks like the repository's, with tiny data sets.

    What tools/reproduce.py starts as processes runs here: their imports have been done.
    """
    monkeypatch.setattr('mmv2m.reproduce.runs._run', run_tool)
    for name in ('tools', 'configs'):
        (tmp_path / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / 'docs', tmp_path / 'docs')
    monkeypatch.chdir(tmp_path)
    make_cifar10()
    make_cifar10('data/flowers', splits=('train', 'val'))
    make_bowl()
    yield
    forget_runners()


@pytest.mark.parametrize('page', BLOCKS)
def test_languages(page):
    assert len(BLOCKS[page]) * 2 == (ROOT / page).read_text().count('```')
    assert {block['language'] for block in BLOCKS[page]} <= {'python', 'bash'}


@pytest.mark.parametrize('page', BLOCKS)
def test_commands_and_configs_are_in_fences(page):
    text = FENCE.sub('', (ROOT / page).read_text())
    indented = r'^ {4,}(?:(?:python|mim|pip|make|bash|tools/)\b.*|--.*|.* = dict\(.*)'
    assert not re.findall(indented, text, re.MULTILINE)


@pytest.mark.parametrize('page', [page for page, blocks in RUN.items() if blocks])
def test_blocks(page, place, monkeypatch):
    if page == 'docs/fine_tuning.md':
        save_official_vmamba('vssm1_tiny_0230s_ckpt_epoch_264.pth')
    names = dict(__name__='page')
    for i, block in enumerate(RUN[page]):
        if block['language'] == 'bash':
            for command in _commands(block['code'], block['text'] or ''):
                _run(command, monkeypatch)
        elif all(isinstance(node, ast.Assign) for node in ast.parse(block['code']).body):
            named = block['text'] if block['mark'] == 'saved as' else f'block{i}.py'
            _build(block['code'], Path(named))
        else:
            exec(compile(block['code'], f'{page}, block {i}', 'exec'), names)


def _commands(code, extra):
    """The commands of a shell block, as lists of words."""
    lines = code.replace('\\\n', ' ').splitlines()
    for line in filter(None, (re.sub(r'(^| )#.*', '', line).strip() for line in lines)):
        printed = subprocess.check_output(
            ['bash', '-c', f"printf '%s\\0' {line} {extra}"], text=True
        )
        yield printed.rstrip('\0').split('\0')


def _run(words, monkeypatch):
    """Run a command, a Python one in this process: its imports have been done here."""
    if words[0] != 'python':
        subprocess.run(words, check=True)
        return
    forget_runners()
    monkeypatch.setattr(sys, 'argv', words[1:])
    if words[1] == '-c':
        exec(words[2], dict(__name__='__main__'))
        return
    try:
        runpy.run_path(words[1], run_name='__main__')
    except SystemExit as stop:
        assert not stop.code, f'{words} failed: {stop.code}'


def _build(code, path):
    """Load a config and build its model, or without one give its optimizer a model."""
    # A page's relative _base_ is beside the configs.
    code = re.sub(r"^_base_ = '\./", f"_base_ = '{ROOT}/configs/", code, flags=re.MULTILINE)
    path.write_text(code)
    cfg = Config.fromfile(path)
    cfg.setdefault('default_scope', 'mmpretrain')
    init_default_scope(cfg.default_scope)
    if 'model' in cfg:
        check_model(cfg)
        MODELS.build(cfg.model)
    elif 'optim_wrapper' in cfg:
        arch = dict(embed_dims=8, depths=(1, 0, 0, 0))
        model = Classifier(V2M(arch, img_size=32, out_indices=0), 10)
        groups = build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups
        decayed = {id(p) for group in groups if group['weight_decay'] for p in group['params']}
        assert {n for n, p in model.named_parameters() if id(p) in decayed} == {
            name
            for name, p in model.named_parameters()
            if p.dim() > 1 and not any(s in name for s in ('A_log', 'pos_embed', 'class_token'))
        }
