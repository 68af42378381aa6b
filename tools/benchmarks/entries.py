"""The measurements of docs/speed.md: scripts and arguments, the most important first."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ['CPU', 'ENTRIES', 'Entry', 'select']

PYRAMIDS = ('V2M-S*', 'Swin-T', 'V2M-B*', 'Swin-S')
VIM_NEEDS = ('einops', 'mamba_ssm', 'selective_scan_cuda', 'causal_conv1d', 'causal_conv1d_cuda')


@dataclass(frozen=True)
class Entry:
    """One benchmark.

    Attributes:
        name: Name of its JSON file, and of its place in the page.
        script: Name of the script in this folder.
        arguments: Arguments of the script, without ``--out``.
        limit: Time that it may take, in seconds.
        needs: Modules without which it cannot run.
        clone: ``'Vim'`` or ``'VMamba'`` if it needs a clone of that official repository.
    """

    name: str
    script: str
    arguments: tuple[str, ...] = ()
    limit: int = 420
    needs: tuple[str, ...] = ()
    clone: str | None = None

    def command(self, clone: str | None = None) -> list[str]:
        """Return the script and all of its arguments except ``--out``.

        Args:
            clone: Where the official repository is; by default, beside this one.
        """
        if self.clone is None:
            return [self.script, *self.arguments]
        where = clone or f'../{self.clone}'
        return [self.script, *self.arguments, f'--{self.clone.lower()}', where]

    def shown(self) -> str:
        """Return the command as one types it in the repository's root."""
        script, *arguments = self.command()
        return shlex.join(['python', f'tools/benchmarks/{script}', *arguments])


def _models(name: str, *arguments: str, models: tuple[str, ...] = (), limit: int = 420) -> Entry:
    return Entry(name, 'models.py', (*arguments, *(('--models', *models) if models else ())), limit)


ENTRIES = (
    Entry('training', 'training.py', limit=570),
    Entry('training-dense', 'training.py', ('--tasks', 'detection', 'segmentation')),
    Entry('training-files', 'loading.py'),
    Entry(
        'training-stock',
        'training.py',
        ('--stock', '--models', 'V2M-T', 'V2M-S*', 'Swin-T', 'DeiT-T'),
    ),
    _models('models', models=('V2M-T', 'V2M-S', *PYRAMIDS, 'DeiT-T', 'DeiT-S')),
    _models(
        'other-models',
        models=(
            *('Vim-T', 'Vim-S', 'VMamba-T', 'VMamba-S', 'V2M-T, class tokens'),
            *('V2M-S, class tokens', 'V2M-T, local window', 'V2M-S, local window', 'ConvNeXt-T'),
        ),
    ),
    Entry('kernels', 'kernels.py'),
    Entry('one-walk', 'one_walk.py'),
    Entry('operators', 'operators.py', ('--skip-reference',)),
    _models('graphs', '--modes', 'graph', models=('V2M-T', 'V2M-S', *PYRAMIDS)),
    Entry('breakdown-t', 'breakdown.py', ('--model', 'V2M-T', '--training')),
    Entry('breakdown-b-star', 'breakdown.py', ('--model', 'V2M-B*', '--training')),
    _models(
        *('size-512', '--size', '512', '512', '--batch', '32'),
        models=('V2M-T', 'V2M-S*', 'Swin-T', 'DeiT-T'),
    ),
    _models(
        *('size-800x1280', '--size', '800', '1280', '--batch', '8'),
        models=('V2M-T', 'V2M-S*', 'V2M-B*', 'Swin-T'),
    ),
    _models(
        *('latency', '--batch', '1', '--modes', 'eager', 'graph', '--skip', 'training'),
        models=('V2M-T', 'V2M-S*', 'DeiT-T', 'Swin-T'),
    ),
    Entry('first-use', 'first_use.py', ('--model', 'V2M-S*')),
    Entry('mixer', 'mixer.py', ('--skip', 'reference')),
    Entry('scaling', 'scaling.py'),
    Entry(
        'official-vim',
        'official.py',
        ('--models', 'Vim-T', 'Vim-S'),
        limit=540,
        needs=VIM_NEEDS,
        clone='Vim',
    ),
    Entry(
        'official-vmamba',
        'official.py',
        ('--models', 'VMamba-T', 'VMamba-S'),
        limit=540,
        needs=('selective_scan_cuda',),
        clone='VMamba',
    ),
    _models(
        *('compile', '--modes', 'compile', 'compile+graph', 'graph'),
        models=('V2M-T', 'V2M-S*', 'Swin-T'),
        limit=570,
    ),
    Entry('reference', 'operators.py', limit=540),
)

CPU = Entry('cpu', 'cpu.py', ('--threads', '2'))
"""The benchmarks that are run without a GPU."""


def select(entries: Sequence[Entry], names: Sequence[str] | None) -> list[Entry]:
    """Return the entries of the given names, in the entries' order.

    Args:
        entries: The entries to choose from.
        names: Names of entries or groups. The group ``official`` has all entries whose names begin
            with ``official-``. None means all entries.

    Raises:
        ValueError: If no entry has one of the names.
    """
    if names is None:
        return list(entries)
    found = {n: [e for e in entries if e.name == n or e.name.startswith(f'{n}-')] for n in names}
    unknown = [name for name, chosen in found.items() if not chosen]
    if unknown:
        known = ', '.join(entry.name for entry in entries)
        raise ValueError(f'no benchmark is called {", ".join(unknown)}; there are {known}')
    chosen = {entry.name for group in found.values() for entry in group}
    return [entry for entry in entries if entry.name in chosen]
