"""The tables of docs/speed.md, each from the JSON of one benchmark on one GPU."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from goals import SCAN_SHARE, goal_of

from mmv2m.reproduce.markdown import markdown_table

__all__ = ['TABLES', 'brief_training_table', 'cpu_table']

Measured = Mapping[str, Any]
"""The content of a benchmark's file."""

NOTHING = '–'
BACKENDS = dict(
    cuda='CUDA C++',
    triton='Triton',
    mamba_ssm='mamba_ssm with copies',
    bare='mamba_ssm alone',
    reference='reference',
)
KERNELS_SHOWN = 15
STEP = ['a step, ms', 'GPU busy, ms', 'GPU busy', 'images/s']
PARTS = dict(
    preprocessing='preprocessing, ms',
    forward='forward and loss',
    backward='backward',
    optimizer='optimizer',
    hooks='hooks',
)
HEADS = ['inference, images/s', 'training, images/s', 'peak GiB, training']


def training_table(measured: Measured, gpu: str) -> str:
    """Return whole steps, the GPU's busy time and the parts; then the steps by image size."""
    rows = [
        [
            *_step(r),
            *(f'{r["parts"][part]:.1f}' for part in PARTS),
            f'{r["peak_gib"]:.1f}',
            f'{r["groups"]}',
            'yes' if r['graphs'] else 'no',
        ]
        for r in measured['results']
    ]
    heads = ['model', *STEP, *PARTS.values(), 'GiB', 'groups', 'graphs']
    tables = [markdown_table(heads, rows)]
    turns = [r for r in measured['results'] if len(r['sizes']) > 1]
    if turns:
        sizes = _distinct(size for r in turns for size in r['sizes'])
        by_size = [[r['model'], *(_number(r['sizes'].get(s), '.1f') for s in sizes)] for r in turns]
        heads = ['milliseconds a step', *(size.replace('x', ' x ') for size in sizes)]
        tables.append(markdown_table(heads, by_size))
    return '\n\n'.join(tables)


def brief_training_table(measured: Measured, models: Sequence[str]) -> str:
    """Return whole steps of a few models, and the time for which the GPU is busy."""
    found = {r['model']: _step(r) for r in measured['results']}
    return markdown_table(['model', *STEP], [found[name] for name in models if name in found])


def _step(r: Measured) -> list[str]:
    whole, busy = r['milliseconds'], r['gpu_milliseconds']
    speed = f'{r["images_per_second"]:,.0f}'
    return [r['model'], f'{whole:.1f}', f'{busy:.1f}', f'{busy / whole:.0%}', speed]


def files_table(measured: Measured, gpu: str) -> str:
    """Return images per second with and without loading, and the core time of loading."""
    speeds = [r for r in measured['results'] if 'what' in r]
    times = [r for r in measured['results'] if 'transform' in r]
    total = sum(r['milliseconds'] for r in times)
    each = [[f'`{r["transform"]}`', f'{r["milliseconds"]:.2f}'] for r in times]
    each.append(['all', f'{total:.2f}'])
    tables = [
        markdown_table(
            [f'{measured["workers"]} workers', 'images/s'],
            [[r['what'], f'{r["images_per_second"]:,.0f}'] for r in speeds],
        ),
        markdown_table(['transform', "ms of a core's time an image"], each),
    ]
    return '\n\n'.join(tables)


def first_use_table(measured: Measured, gpu: str) -> str:
    """Return the first step at each image size, in turn, and the number of kernels then."""
    heads = [f'size, on {measured["cores"]} cores', 'first step, s', 'second step, s']
    rows = [
        [
            r['size'],
            *(f'{r[key]:.2f}' for key in ('first', 'second')),
            *(str(r[key]) for key in ('cubins', 'triton')),
        ]
        for r in measured['results']
    ]
    return markdown_table([*heads, 'kernels in CUDA C++', 'kernels in Triton'], rows)


def figures(results: Iterable[Measured]) -> dict[str, dict[str, float]]:
    """Return each model's ``inference`` and ``training`` in images per second, and ``peak_gib``."""
    found: dict[str, dict[str, float]] = {}
    for r in results:
        model = found.setdefault(r['model'], {})
        model['training' if r['training'] else 'inference'] = r['images_per_second']
        if r['training']:
            model['peak_gib'] = r['peak_gib']
    return found


def models_table(measured: Measured, gpu: str) -> str:
    """Return a table of the speed and the memory of whole models."""
    rows = figures(measured['results'])
    return markdown_table(['model', *HEADS], [[name, *_figures(row)] for name, row in rows.items()])


def modes_table(measured: Measured, gpu: str) -> str:
    """Return a table of whole models in which each mode has a row of its own."""
    cells = []
    for mode in _distinct(r['mode'] for r in measured['results']):
        rows = figures([r for r in measured['results'] if r['mode'] == mode])
        cells += [(name, mode, *_figures(row)) for name, row in rows.items()]
    return markdown_table(['model', 'mode', *HEADS], sorted(cells))


def _figures(row: Mapping[str, float]) -> list[str]:
    kinds = (('inference', ',.0f'), ('training', ',.0f'), ('peak_gib', '.2f'))
    return [_number(row.get(key), form) for key, form in kinds]


def goals_table(measured: Measured, gpu: str) -> str:
    """Return the speed and memory of whole models, beside their goals and the reached share."""
    rows = figures(measured['results'])
    cells = []
    for name, row in rows.items():
        goal = goal_of(name, gpu, rows)
        cells.append([name])
        for key, shown in zip(('inference', 'training', 'peak_gib'), _figures(row), strict=True):
            aim = None if goal is None or key not in row else getattr(goal, key)
            form = '.2f' if key == 'peak_gib' else ',.0f'
            cells[-1] += [shown, '' if aim is None else f'{aim:{form}} ({row[key] / aim:.0%})']
    return markdown_table(['model', *(head for kind in HEADS for head in (kind, 'goal'))], cells)


def latency_table(measured: Measured, gpu: str) -> str:
    """Return the milliseconds for one image in each mode."""
    found = {(r['model'], r['mode']): r['milliseconds'] for r in measured['results']}
    modes = _distinct(r['mode'] for r in measured['results'])
    heads = [dict(graph='CUDA graph').get(mode, mode) for mode in modes]
    rows = [
        [model, *(_number(found.get((model, mode)), '.2f') for mode in modes)]
        for model in _distinct(r['model'] for r in measured['results'])
    ]
    return markdown_table(['milliseconds for one image', *heads], rows)


def kernels_table(measured: Measured, gpu: str) -> str:
    """Return the microseconds of each kernel on each backend, for both halves if they differ.

    The share of the floor is in parentheses, where the floor is known.
    """
    found: dict[tuple[str, str], list[str]] = {}
    for r in measured['results']:
        time = f'{r["microseconds"]:,.0f}'
        if 'floor_us' in r:
            time += f' ({r["floor_us"] / r["microseconds"]:.0%})'
        found.setdefault((r['kernel'], r['backend']), []).append(time)
    rows = [
        [kernel, *(' / '.join(found.get((kernel, name), [])) for name in ('cuda', 'triton'))]
        for kernel in _distinct(r['kernel'] for r in measured['results'])
    ]
    table = markdown_table(['microseconds', BACKENDS['cuda'], BACKENDS['triton']], rows)
    return f'{table}\n\nThe goal for the forward scans is {SCAN_SHARE:.0%} of their floor.'


def one_walk_table(measured: Measured, gpu: str) -> str:
    """Return the microseconds of a pyramid's forward scans, by one kernel and by several."""
    found: dict[tuple[int, int, int], dict[str, float]] = {}
    for r in measured['results']:
        times = found.setdefault((r['side'], r['channels'], r['half']), {})
        times[r['kernels']] = r['microseconds']
    rows = [
        [
            *(f'{side} x {side}, {channels}', str(half)),
            *(f'{times[name]:,.0f}' for name in ('one', 'several')),
            f'{times["several"] / times["one"]:.2f} x',
        ]
        for (side, channels, half), times in found.items()
        if len(times) == 2
    ]
    heads = ['tokens, channels', 'half', 'one kernel, us', 'several, us', 'faster by']
    return markdown_table(heads, rows)


def operators_table(measured: Measured, gpu: str) -> str:
    """Return each case's milliseconds by backend, its floor, and mamba_ssm's multiples of ours."""
    results = measured['results']
    backends = [name for name in BACKENDS if any(r['backend'] == name for r in results)]
    rows = []
    for case in _distinct(r['case'] for r in results):
        by_backend = {r['backend']: r for r in results if r['case'] == case}
        for key, what in (('forward_ms', 'forward'), ('both_ms', 'forward and backward')):
            times = {name: r[key] for name, r in by_backend.items()}
            floor = next(iter(by_backend.values()))['floor_ms'] if key == 'forward_ms' else None
            cells = [_operator_cell(name, times, floor) for name in backends]
            rows.append([f'{case}, {what}', _number(floor, '.3f', ''), *cells])
    ceilings = (
        f'Copies move {measured["copy_bytes_per_second"] / 1e12:.2f} TB/s, the special function '
        f'units make {measured["exponentials_per_second"] / 1e12:.2f} T exponentials/s.'
    )
    table = markdown_table(['milliseconds', 'floor', *(BACKENDS[name] for name in backends)], rows)
    return f'{table}\n\n{ceilings}'


def _operator_cell(backend: str, times: Mapping[str, float], floor: float | None) -> str:
    """Format a time with the share of the floor (our kernels) or the multiple of our time."""
    time, ours = times.get(backend), times.get('cuda', times.get('triton'))
    if time is None:
        return ''
    if backend in ('cuda', 'triton'):
        return f'{time:.3f}' + ('' if floor is None else f' ({floor / time:.0%})')
    return f'{time:.3f}' + ('' if ours is None else f' ({time / ours:.2f} x)')


def breakdown_table(measured: Measured, gpu: str) -> str:
    """Return the kernels that take longest, and the busy time of the GPU and of the host."""
    kernels, busy = measured['results'], measured['gpu_milliseconds']
    rows = [
        [
            f'`{kernel["kernel"][:60]}`',
            f'{kernel["calls"]}',
            f'{kernel["milliseconds"]:.2f}',
            f'{kernel["milliseconds"] / busy:.0%}',
        ]
        for kernel in kernels[:KERNELS_SHOWN]
    ]
    rest = kernels[KERNELS_SHOWN:]
    if rest:
        calls, time = (sum(kernel[key] for kernel in rest) for key in ('calls', 'milliseconds'))
        rows.append([f'{len(rest)} others', f'{calls}', f'{time:.2f}', f'{time / busy:.0%}'])
    table = markdown_table(['kernel', 'calls', 'milliseconds', 'share'], rows)
    host = measured['host_milliseconds']
    return f'{table}\n\nOf a step the GPU is busy for {busy:.1f} ms, the host for {host:.1f} ms.'


def mixer_table(measured: Measured, gpu: str) -> str:
    """Return the time and the memory of the layer on each backend, and of attention."""
    cells: dict[tuple[str, str], dict[bool, list[str]]] = {}
    for r in measured['results']:
        row = cells.setdefault((r['model'], r['layer']), {})
        row[r['training']] = [f'{r["milliseconds"]:.3f}', f'{r["peak_gib"]:.2f}']
    empty = [NOTHING, NOTHING]
    rows = [[*names, *row.get(False, empty), *row.get(True, empty)] for names, row in cells.items()]
    heads = ['forward, ms', 'peak GiB', 'forward and backward, ms', 'peak GiB']
    return markdown_table(['width of', 'layer', *heads], rows)


def scaling_table(measured: Measured, gpu: str) -> str:
    """Return the time and the memory by image size."""
    results = measured['results']
    found = {(r['model'], r['pixels'], r['training']): r for r in results}
    models = _distinct(r['model'] for r in results)
    rows = []
    for pixels in sorted({r['pixels'] for r in results}):
        rows.append([f'{pixels:,}'])
        for model in models:
            rows[-1] += _scaling_cells(*(found.get((model, pixels, t)) for t in (False, True)))
    kinds = ('inference, ms', 'training, ms', 'us a 1,000 pixels', 'peak MiB')
    return markdown_table(
        ['side, pixels', *(f'{model}: {kind}' for model in models for kind in kinds)], rows
    )


def _scaling_cells(inference: Measured | None, training: Measured | None) -> list[str]:
    """Format both times in ms, and training's time per thousand pixels and its memory."""
    cells = [NOTHING if inference is None else f'{inference["milliseconds"]:.1f}']
    if training is None:
        return [*cells, NOTHING, NOTHING, NOTHING]
    pixels = training['batch'] * training['pixels'] ** 2
    each = 1e6 * training['milliseconds'] / pixels
    return [
        *cells,
        f'{training["milliseconds"]:.1f}',
        f'{each:.1f}',
        f'{1024 * training["peak_gib"]:,.0f}',
    ]


def official_table(measured: Measured, gpu: str) -> str:
    """Return the speeds and the memory of our models and of the official code, and their errors."""
    results = measured['results']
    rows = []
    for model in _distinct(r['model'] for r in results):
        chosen = [r for r in results if r['model'] == model]
        cells = [model]
        for training in (False, True):
            cells += _by_side(chosen, training, 'images_per_second', ',.0f', ratio=True)
        cells += _by_side(chosen, True, 'peak_gib', '.2f', ratio=False)
        rows.append([*cells, f'{chosen[0]["logits_error"]:.0e}'])
    heads = ['inference, images/s, official', 'ours', 'training, images/s, official', 'ours']
    heads += ['peak GiB, training, official', 'ours', 'error of logits, float32']
    return markdown_table(['model', *heads], rows)


def _by_side(
    results: Iterable[Measured], training: bool, key: str, form: str, ratio: bool
) -> list[str]:
    """Format the official code's mean over the rounds, and ours with its multiple of that mean."""
    found: dict[str, list[float]] = {'official': [], 'ours': []}
    for r in results:
        if r['training'] == training:
            found[r['side']].append(r[key])
    means = {side: fmean(values) if values else None for side, values in found.items()}
    cells = [_number(value, form) for value in means.values()]
    official, ours = means.values()
    if ratio and official and ours:
        cells[1] += f' ({ours / official:.2f} x)'
    return cells


def _number(value: float | None, form: str, nothing: str = NOTHING) -> str:
    return nothing if value is None else f'{value:{form}}'


def _distinct(values: Iterable[str]) -> list[str]:
    """Return the distinct values, in the order in which they first occur."""
    return list(dict.fromkeys(values))


def cpu_table(measured: Measured) -> str:
    """Return the time of one image on a CPU, and of the digits demo's step on two backends."""
    times = {r['model']: r['milliseconds'] for r in measured['results'] if 'model' in r}
    steps = {r['backend']: r['milliseconds'] for r in measured['results'] if 'backend' in r}
    beside = ('DeiT-T', 'Swin-T')
    rows = [
        [name, f'{one:.1f}', *(f'{one / times[other]:.2f} x' for other in beside)]
        for name, one in times.items()
    ]
    tables = [markdown_table(['model', 'ms', *(f'beside {other}' for other in beside)], rows)]
    gain = f'{steps["reference"] / steps["cpu"]:.2f} x'
    rows = [[*(f'{steps[name]:.1f}' for name in ('reference', 'cpu')), gain]]
    heads = ['training step, ms, `reference`', '`cpu`', 'faster by']
    return '\n\n'.join([*tables, markdown_table(heads, rows)])


TABLES: Mapping[str, Callable[[Measured, str], str]] = {
    'training': training_table,
    'training-dense': training_table,
    'training-files': files_table,
    'training-stock': training_table,
    'models': goals_table,
    'other-models': models_table,
    'kernels': kernels_table,
    'one-walk': one_walk_table,
    'operators': operators_table,
    'graphs': models_table,
    'breakdown-t': breakdown_table,
    'breakdown-b-star': breakdown_table,
    'size-512': models_table,
    'size-800x1280': models_table,
    'latency': latency_table,
    'first-use': first_use_table,
    'mixer': mixer_table,
    'scaling': scaling_table,
    'official-vim': official_table,
    'official-vmamba': official_table,
    'compile': modes_table,
    'reference': operators_table,
}
"""For each entry, the function that makes a table from its file's content and the GPU."""
