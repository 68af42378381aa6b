"""Who imports whom in ops/, read from the sources: also imports inside functions."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

OPS = Path(__file__).parents[2] / 'ops'


def module_name(path):
    """Such as ``ops.gpu.ssm``; a package's is that of its folder."""
    parts = path.relative_to(OPS.parent).with_suffix('').parts
    return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


FILES = {module_name(path): path for path in OPS.rglob('*.py')}


def imports_of(module):
    """The modules of ops/ that a module imports."""
    path, found = FILES[module], set()
    package = module if path.name == '__init__.py' else module.rpartition('.')[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            base = package.rsplit('.', node.level - 1)[0] if node.level else ''
            base = '.'.join(filter(None, (base, node.module)))
            for alias in node.names:
                name = f'{base}.{alias.name}'
                found.add(name if name in FILES else base)
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
    return {name for name in found if name in FILES}


IMPORTS = {module: imports_of(module) for module in FILES}


def reached_from(folder):
    """The folders of ops/ that the modules of one import, with what these import."""
    seen, left = set(), [m for m in FILES if m == f'ops.{folder}' or m.startswith(f'ops.{folder}.')]
    while left:
        module = left.pop()
        if module not in seen:
            seen.add(module)
            left += IMPORTS[module]
    return {module.split('.')[1] for module in seen if '.' in module}


def test_the_sources_are_read():
    assert 'ops.gpu.ssm' in IMPORTS['ops.gpu.corner_ssm']
    assert 'ops.triton' in IMPORTS['ops.backends.triton']  # inside a function
    assert 'ops.backends.installed' in IMPORTS['ops.backends.cuda']


def test_no_circle():
    list(TopologicalSorter(IMPORTS).static_order())  # raises CycleError with the circle


@pytest.mark.parametrize(
    ('folder', 'others'),
    [
        ('cuda', {'triton', 'backends'}),
        ('triton', {'cuda', 'backends'}),
        ('gpu', {'cuda', 'triton', 'backends'}),
        ('runtime', {'gpu', 'cuda', 'triton', 'backends', 'directions'}),
        ('reference', {'runtime', 'gpu', 'cuda', 'triton', 'backends'}),
    ],
)
def test_what_a_folder_does_not_know(folder, others):
    assert not reached_from(folder) & others


def test_operators_reach_kernels_through_backends_only():
    for module, names in IMPORTS.items():
        if module.count('.') == 1 and FILES[module].name != '__init__.py':
            assert not {name.split('.')[1] for name in names} & {'gpu', 'cuda', 'triton', 'runtime'}
